//! Attaching in the first mode of a list that the device takes, and what is said where it takes none.

use std::fmt;

use xdpd_config::Mode;
use xdpd_kernel::{
    AttachError, DetachError, Entrance, IfIndex, NetNs, Program, ProgramId, Refusal, UpdateError, XdpLink,
    netlink,
};

use crate::{devices, mode};

/// Where a program is attached.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) netns: Option<&'p str>,
    pub(super) ifindex: IfIndex,
    /// Tried in this order.
    pub(super) modes: &'p [Mode],
}

/// A link that was made.
pub(super) struct Made {
    pub(super) link: XdpLink,
    pub(super) mode: Mode,
    /// The modes before it in the list.
    pub(super) refused: Vec<Refused>,
}

/// A mode in which the device does not run a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The mode.
    pub mode: Mode,
    /// The kind of reason.
    pub refusal: Refusal,
    /// The MTU of the device, in bytes.
    pub mtu: u32,
    /// The call that failed, with the reason.
    pub call: String,
    /// The reason alone.
    pub reason: String,
}

/// Why a program was not attached, replaced or removed.
#[derive(Debug)]
pub struct AttachFailure {
    /// The last reason.
    pub why: Why,
    /// The modes that were refused before, in the order in which they were tried.
    pub refused: Vec<Refused>,
}

/// The reason.
#[derive(Debug)]
pub enum Why {
    /// The device, or its network namespace, is no longer there.
    Vanished(xdpd_kernel::Error),
    /// Somebody has detached the link; the device is there.
    Detached(xdpd_kernel::Error),
    /// Another program runs there than was expected, or none does.
    Taken(Option<ProgramId>, xdpd_kernel::Error),
    /// A device above runs a program.
    Upper(String, xdpd_kernel::Error),
    /// Every mode was refused.
    Refused,
    /// Anything else.
    Failed(xdpd_kernel::Error),
}

impl From<Why> for AttachFailure {
    fn from(why: Why) -> Self {
        Self { why, refused: Vec::new() }
    }
}

impl From<xdpd_kernel::Error> for AttachFailure {
    fn from(error: xdpd_kernel::Error) -> Self {
        Why::Failed(error).into()
    }
}

impl From<DetachError> for AttachFailure {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::DeviceGone(error) => Why::Vanished(error),
            DetachError::Replaced { by, error } => Why::Taken(by, error),
            DetachError::UpperDevice { upper, error } => Why::Upper(upper, error),
            DetachError::Failed(error) => Why::Failed(error),
        }
        .into()
    }
}

impl fmt::Display for AttachFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = |f: &mut fmt::Formatter<'_>| {
            let reasons = self.refused.iter().map(|refused| format!("{}: {}", refused.mode, refused.reason));
            f.write_str(&reasons.collect::<Vec<_>>().join("; "))
        };
        match &self.why {
            Why::Refused => {
                if let [only] = &*self.refused {
                    return f.write_str(&only.call);
                }
                f.write_str("no mode of the list is accepted; ")?;
                return refused(f);
            }
            Why::Vanished(error) => write!(f, "{error}; the device is gone"),
            Why::Detached(error) => write!(f, "{error}; the link was detached meanwhile"),
            Why::Taken(Some(by), error) => {
                write!(f, "{error}; another program, id {by}, runs there since, `xdpd diff` names it")
            }
            Why::Taken(None, error) => write!(f, "{error}; nothing runs there any more"),
            Why::Upper(upper, error) => write!(
                f,
                "{error}; {upper}, which lies above this device, runs a program: the kernel attaches from below to \
                 above and detaches from above to below"
            ),
            Why::Failed(error) => error.fmt(f),
        }?;
        if self.refused.is_empty() {
            return Ok(());
        }
        f.write_str("; refused before, ")?;
        refused(f)
    }
}

impl std::error::Error for AttachFailure {}

impl AttachFailure {
    /// The device, or its namespace, is no longer there.
    pub(super) fn is_vanished(&self) -> bool {
        matches!(self.why, Why::Vanished(_))
    }
}

/// Without a device there is nothing that could be put back on it.
pub(super) fn unless_vanished(result: Result<(), AttachFailure>) -> Result<(), AttachFailure> {
    result.or_else(|e| if e.is_vanished() { Ok(()) } else { Err(e) })
}

/// Opens the namespace of a device as the file names it.
pub(super) fn enter(netns: Option<&str>) -> Result<NetNs, Why> {
    match devices::find(netns).map_err(Why::Failed)? {
        Entrance::Open(netns) => Ok(netns),
        Entrance::Absent(error) => Err(Why::Vanished(error)),
    }
}

/// Attaches in the first mode that the device takes.
pub(super) fn attach(place: Place<'_>, program: &Program) -> Result<Made, AttachFailure> {
    let netns = enter(place.netns)?;
    let create = |mode: Mode| {
        let created = netns.run(|| XdpLink::create(program, place.ifindex, mode::to_kernel(mode)));
        created.map_err(|e| Answer::No(Why::Failed(e)))?.map_err(|e| Answer::of(mode, e))
    };
    let (link, mode, refused) = first_accepted(place.modes, create)?;
    Ok(Made { link, mode, refused })
}

/// Why one mode was not taken.
enum Answer {
    /// Another one may do.
    Refused(Refused),
    /// No other one would do.
    No(Why),
}

impl Answer {
    fn of(mode: Mode, error: AttachError) -> Self {
        Self::No(match error {
            AttachError::Refused { refusal, mtu, error } => {
                return Self::Refused(Refused {
                    mode,
                    refusal,
                    mtu,
                    call: error.to_string(),
                    reason: error.reason(),
                });
            }
            AttachError::DeviceGone(error) => Why::Vanished(error),
            AttachError::Taken { by, error } => Why::Taken(Some(by.program_id), error),
            AttachError::UpperDevice { upper, error } => Why::Upper(upper, error),
            AttachError::Failed(error) => Why::Failed(error),
        })
    }
}

/// Goes along a list of modes for as long as they are refused.
fn first_accepted<T>(
    modes: &[Mode],
    mut create: impl FnMut(Mode) -> Result<T, Answer>,
) -> Result<(T, Mode, Vec<Refused>), AttachFailure> {
    let mut refused = Vec::new();
    for mode in modes {
        match create(*mode) {
            Ok(made) => return Ok((made, *mode, refused)),
            Err(Answer::Refused(why)) => refused.push(why),
            Err(Answer::No(why)) => return Err(AttachFailure { why, refused }),
        }
    }
    Err(AttachFailure { why: Why::Refused, refused })
}

/// Puts `new` in the place of `expected`, in the mode of the link: a replacement goes along no list.
pub(super) fn replace(
    link: &XdpLink,
    new: &Program,
    expected: &Program,
    place: Place<'_>,
    mtu: u32,
) -> Result<(), AttachFailure> {
    let error = match link.update(new, expected) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    Err(match error {
        UpdateError::Defunct(error) => match enter(place.netns)?.run(|| netlink::find(place.ifindex))?? {
            Some(_) => Why::Detached(error),
            None => Why::Vanished(error),
        }
        .into(),
        UpdateError::Replaced { by, error } => Why::Taken(Some(by), error).into(),
        UpdateError::Refused { refusal, error } => {
            let mode = place.modes.first().copied().unwrap_or_default();
            let (call, reason) = (error.to_string(), error.reason());
            AttachFailure { why: Why::Refused, refused: vec![Refused { mode, refusal, mtu, call, reason }] }
        }
        UpdateError::Failed(error) => error.into(),
    })
}

/// Whether a program takes packets of several buffers, which native mode needs where the MTU is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frags {
    /// It does.
    Taken,
    /// It would with another section's name.
    Possible,
    /// Programs of its kind do not.
    Impossible,
}

/// The largest MTU that no driver refuses for being large.
const USUAL_MTU: u32 = 1500;

/// What may be behind refusals, and what may help. Nothing of it is known: each driver has reasons of its own.
///
/// Nothing where nothing was refused: then it is not the mode that failed.
pub(super) fn advice(refused: &[Refused], frags: Frags, is_replacement: bool) -> Option<String> {
    if refused.is_empty() {
        return None;
    }
    let guesses: Vec<String> = refused.iter().filter_map(|refused| guess(refused, frags)).collect();
    let mut remedies = Vec::new();
    if frags != Frags::Taken && refused.iter().any(may_be_the_mtu) {
        remedies.push("a smaller MTU".to_owned());
        if frags == Frags::Possible {
            remedies.push("SEC(\"xdp.frags\")".to_owned());
        }
    }
    let was_tried = |mode| refused.iter().any(|refused| refused.mode == mode);
    let untried = [Mode::Native, Mode::Generic].into_iter().filter(|mode| !was_tried(*mode));
    // What the network stack refuses, no driver takes.
    if !was_tried(Mode::Generic) {
        remedies.extend(untried.map(|mode| format!("mode = \"{mode}\"")));
    }
    let last = remedies.pop()?;
    let remedies = if remedies.is_empty() { last } else { format!("{} or {last}", remedies.join(", ")) };
    let guesses = if guesses.is_empty() { String::new() } else { format!("{}: ", guesses.join("; ")) };
    let why = if is_replacement { ", for a replacement does not fall back to another mode" } else { "" };
    Some(format!("{guesses}{remedies} may help{why}"))
}

/// Whether the MTU may be the reason.
fn may_be_the_mtu(refused: &Refused) -> bool {
    let settings = [Refusal::Unsupported, Refusal::Invalid].contains(&refused.refusal);
    refused.mode == Mode::Native
        && (refused.refusal == Refusal::OutOfRange || (settings && refused.mtu > USUAL_MTU))
}

/// What may be behind a refusal.
fn guess(refused: &Refused, frags: Frags) -> Option<String> {
    let mtu = refused.mtu;
    let too_large = || match (mtu > USUAL_MTU, frags) {
        (true, Frags::Taken) => format!("an MTU of {mtu} may be too large for native XDP"),
        (true, _) => format!("an MTU of {mtu} may be too large for native XDP without frags"),
        (false, _) => {
            format!(
                "the MTU of the device ({mtu}) or of its peer may be too large for native XDP without frags"
            )
        }
    };
    Some(match (refused.mode, refused.refusal) {
        (Mode::Native, Refusal::OutOfRange) => too_large(),
        (Mode::Native, Refusal::Unsupported | Refusal::Invalid) if may_be_the_mtu(refused) => {
            format!("the driver may not run this program natively, or {}", too_large())
        }
        (Mode::Native, Refusal::Unsupported) => {
            "the driver may have no native mode, or none with the device as it is set up".to_owned()
        }
        (Mode::Native, Refusal::Invalid) => "a setting of the device may exclude native XDP".to_owned(),
        (Mode::Native, Refusal::NoSpace | Refusal::NoMemory) => {
            "the queues or rings of the device may be too few for native XDP (`ethtool -l`, `ethtool -g`)"
                .to_owned()
        }
        (Mode::Native, Refusal::Busy) => "another use of the device may exclude native XDP".to_owned(),
        (Mode::Offload, _) => "the network card may not run programs itself".to_owned(),
        (Mode::Generic, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Generic, Native, Offload};

    fn refused(mode: Mode, refusal: Refusal, mtu: u32) -> Refused {
        Refused { mode, refusal, mtu, call: format!("CALL ({mode}): no"), reason: "no".into() }
    }

    #[test]
    fn a_list_goes_on_after_refusals_only() {
        let no = |mode| Err(Answer::Refused(refused(mode, Refusal::NoSpace, 1500)));
        let first = first_accepted(&[Native, Generic], Ok).unwrap();
        assert_eq!((first.0, first.1, first.2.len()), (Native, Native, 0));
        let second =
            first_accepted(&[Offload, Native, Generic], |m| if m == Generic { Ok(()) } else { no(m) });
        let (.., mode, skipped) = second.unwrap();
        assert_eq!(
            (mode, skipped.iter().map(|r| r.mode).collect::<Vec<_>>()),
            (Generic, vec![Offload, Native])
        );
        let mut tried = Vec::new();
        let taken = first_accepted::<()>(&[Native, Generic], |mode| {
            tried.push(mode);
            Err(Answer::No(Why::Upper("br0".into(), closed())))
        });
        assert!(matches!(taken.unwrap_err().why, Why::Upper(..)));
        assert_eq!(tried, [Native]);
        let none = first_accepted::<()>(&[Native, Offload], no).unwrap_err();
        assert_eq!(none.to_string(), "no mode of the list is accepted; native: no; offload: no");
        let only = first_accepted::<()>(&[Native], no).unwrap_err();
        assert_eq!(only.to_string(), "CALL (native): no");
    }

    /// An error of the kernel, whichever.
    fn closed() -> xdpd_kernel::Error {
        NetNs::open("/nowhere").unwrap_err()
    }

    #[test]
    fn what_ended_a_list_is_told_with_what_was_refused_before() {
        let failure = AttachFailure {
            why: Why::Failed(closed()),
            refused: vec![refused(Native, Refusal::NoSpace, 1500)],
        };
        let text = failure.to_string();
        assert!(text.starts_with("open of /nowhere: "), "{text}");
        assert!(text.ends_with("; refused before, native: no"), "{text}");
    }

    #[test]
    fn advice_fits_the_refusal_and_is_a_possibility() {
        let told = |refused: &[Refused], frags| advice(refused, frags, false).unwrap_or_default();
        let large = refused(Native, Refusal::OutOfRange, 9000);
        assert_eq!(
            told(std::slice::from_ref(&large), Frags::Possible),
            "an MTU of 9000 may be too large for native XDP without frags: a smaller MTU, SEC(\"xdp.frags\") or \
             mode = \"generic\" may help"
        );
        assert_eq!(
            told(std::slice::from_ref(&large), Frags::Impossible),
            "an MTU of 9000 may be too large for native XDP without frags: a smaller MTU or mode = \"generic\" may help"
        );
        assert_eq!(
            advice(&[large], Frags::Taken, true).unwrap(),
            "an MTU of 9000 may be too large for native XDP: mode = \"generic\" may help, for a replacement does not \
             fall back to another mode"
        );
        assert_eq!(
            told(&[refused(Native, Refusal::Unsupported, 1500)], Frags::Possible),
            "the driver may have no native mode, or none with the device as it is set up: mode = \"generic\" may help"
        );
        let queues = told(&[refused(Native, Refusal::NoSpace, 1500)], Frags::Possible);
        assert!(queues.contains("queues") && !queues.contains("MTU"), "{queues}");
        assert_eq!(
            told(&[refused(Offload, Refusal::Invalid, 9000)], Frags::Impossible),
            "the network card may not run programs itself: mode = \"native\" or mode = \"generic\" may help"
        );
        assert_eq!(told(&[], Frags::Possible), "");
        // Nothing is left to name, and no reason to guess.
        assert_eq!(told(&[refused(Generic, Refusal::NoMemory, 9000)], Frags::Possible), "");
        assert_eq!(
            told(
                &[refused(Native, Refusal::NoMemory, 1500), refused(Generic, Refusal::NoMemory, 1500)],
                Frags::Possible
            ),
            ""
        );
        for refusal in [
            Refusal::Unsupported,
            Refusal::OutOfRange,
            Refusal::Invalid,
            Refusal::NoSpace,
            Refusal::NoMemory,
            Refusal::Busy,
        ] {
            for (mode, mtu) in [(Native, 1500), (Native, 9000), (Offload, 1500)] {
                let text = told(&[refused(mode, refusal, mtu)], Frags::Possible);
                assert!(text.contains(" may ") && text.ends_with(" may help"), "{text}");
            }
        }
    }
}
