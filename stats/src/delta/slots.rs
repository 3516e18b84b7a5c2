//! Arithmetic of readings: `slots[action * cpus + cpu]`.

use crate::record::{ACTIONS, Counter};

/// The action and the CPU of a slot.
type Slot = (usize, usize);

/// The sums over all CPUs.
pub(super) fn totals(slots: &[Counter]) -> [Counter; ACTIONS.len()] {
    let cpus = slots.len() / ACTIONS.len();
    std::array::from_fn(|action| {
        slots[action * cpus..(action + 1) * cpus].iter().fold(Counter::default(), |sum, slot| sum.plus(*slot))
    })
}

/// Whether `new` may have taken over the entries of `base`: no action has less.
pub(super) fn hold(new: &[Counter], base: &[Counter]) -> bool {
    totals(new).iter().zip(totals(base)).all(|(new, base)| new.since(base).is_some())
}

/// What came from `old` to `new` in the same map. A slot that went back was reset: all that it holds is new.
pub(super) fn since(old: &[Counter], new: &[Counter], resets: &mut Vec<Slot>) -> [Counter; ACTIONS.len()] {
    let cpus = new.len() / ACTIONS.len();
    std::array::from_fn(|action| {
        let mut sum = Counter::default();
        for cpu in 0..cpus {
            let (old, new) = (old[action * cpus + cpu], new[action * cpus + cpu]);
            sum = sum.plus(new.since(old).unwrap_or_else(|| {
                resets.push((action, cpu));
                new
            }));
        }
        sum
    })
}

/// What came to `new` beside the entries of `base`, another map, that were carried over to it.
///
/// Judged per action and not per slot: what was carried over may have moved to another CPU. An action with less than what
/// was carried over was reset since: all that it holds is new.
pub(super) fn beside(base: &[Counter], new: &[Counter], resets: &mut Vec<Slot>) -> [Counter; ACTIONS.len()] {
    let cpus = new.len() / ACTIONS.len();
    let is_same_layout = base.len() == new.len();
    let (carried, now) = (totals(base), totals(new));
    std::array::from_fn(|action| {
        now[action].since(carried[action]).unwrap_or_else(|| {
            let slots = (0..cpus).map(|cpu| action * cpus + cpu);
            let went_back = slots.filter(|slot| !is_same_layout || new[*slot].since(base[*slot]).is_none());
            resets.extend(went_back.map(|slot| (action, slot % cpus)));
            now[action]
        })
    })
}
