//! Why a program could not be attached, replaced or detached, as a type: the meaning of the error numbers, in one place.
//!
//! An errno alone tells little: drivers give `EBUSY` and `EINVAL` for reasons of their own, and so does whatever sits
//! between a process and the kernel. So a failed call is followed by a look at the device or the link, and a refusal by
//! the driver is one only if it is repeated. The order of the kernel's own checks is that of `dev_xdp_attach` in
//! net/core/dev.c.

use rustix::io::Errno;

use crate::error::{Error, Result};
use xdpd_types::XdpMode;
use xdpd_types::{Attached, Device, LinkInfo, ProgramId};

/// Why a program could not be attached to a device.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The network namespace has no such device.
    #[error("{0}")]
    DeviceGone(Error),
    /// The device runs another program, in this mode or in one that excludes it.
    #[error("{error}")]
    Taken {
        /// What it runs.
        by: Attached,
        /// The call that failed.
        error: Error,
    },
    /// A device above this one (bridge, bond, vlan, macvlan) runs a program: the kernel attaches from below to above.
    #[error("{error}")]
    UpperDevice {
        /// The name of the device above.
        upper: String,
        /// The call that failed.
        error: Error,
    },
    /// The driver, or the kernel for it, does not run this program in this mode, as often as it is asked. Another mode
    /// may do.
    #[error("{error}")]
    Refused {
        /// The kind of reason.
        refusal: Refusal,
        /// The MTU of the device in bytes.
        mtu: u32,
        /// The call that failed, with the kernel's words where it has any.
        error: Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(Error),
}

/// Why the program of a link could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The link attaches nothing any more: its device is gone, or somebody has detached it.
    #[error("{0}")]
    Defunct(Error),
    /// The link runs another program than the expected one.
    #[error("{error}")]
    Replaced {
        /// The program.
        by: ProgramId,
        /// The call that failed.
        error: Error,
    },
    /// The driver, or the kernel for it, does not run the new program in the mode of the link, as often as it is asked.
    /// The kernel has no words for that.
    #[error("{error}")]
    Refused {
        /// The kind of reason.
        refusal: Refusal,
        /// The call that failed.
        error: Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(Error),
}

/// Why a program that was attached without a link could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The network namespace has no such device.
    #[error("{0}")]
    DeviceGone(Error),
    /// The device does not run the expected program in this mode.
    #[error("{error}")]
    Replaced {
        /// What it runs in this mode.
        by: Option<ProgramId>,
        /// The call that failed.
        error: Error,
    },
    /// A device above this one runs a program: the kernel detaches from above to below.
    #[error("{error}")]
    UpperDevice {
        /// The name of the device above.
        upper: String,
        /// The call that failed.
        error: Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(Error),
}

impl AttachError {
    /// The call that failed, for those who need not know more.
    pub fn into_error(self) -> Error {
        match self {
            Self::DeviceGone(error)
            | Self::Taken { error, .. }
            | Self::UpperDevice { error, .. }
            | Self::Refused { error, .. }
            | Self::Failed(error) => error,
        }
    }
}

impl DetachError {
    /// The call that failed, for those who need not know more.
    pub fn into_error(self) -> Error {
        match self {
            Self::DeviceGone(error)
            | Self::Replaced { error, .. }
            | Self::UpperDevice { error, .. }
            | Self::Failed(error) => error,
        }
    }
}

/// The error numbers with which drivers refuse a mode. Which reason is behind one is a guess, and differs from driver to
/// driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `EOPNOTSUPP`: the driver has no such mode, or has it not with the settings of the device.
    Unsupported,
    /// `ERANGE`: mostly the MTU.
    OutOfRange,
    /// `EINVAL`: this program or these settings, for most drivers the MTU as well.
    Invalid,
    /// `ENOSPC`: mostly the number of queues.
    NoSpace,
    /// `ENOMEM`: memory, or the number of queues or rings.
    NoMemory,
    /// `EBUSY`: something else excludes it.
    Busy,
}

impl Refusal {
    /// The one list of what is a refusal.
    fn of(errno: Errno) -> Option<Self> {
        Some(match errno {
            Errno::OPNOTSUPP => Self::Unsupported,
            Errno::RANGE => Self::OutOfRange,
            Errno::INVAL => Self::Invalid,
            Errno::NOSPC => Self::NoSpace,
            Errno::NOMEM => Self::NoMemory,
            Errno::BUSY => Self::Busy,
            _ => return None,
        })
    }
}

/// What the kernel answers to a request that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) errno: Errno,
    pub(crate) words: Option<String>,
}

impl From<Errno> for Answer {
    fn from(errno: Errno) -> Self {
        Self { errno, words: None }
    }
}

/// What comes of asking in another way for the reason of a refusal.
#[derive(Debug)]
pub(crate) enum Asked {
    /// There is no other way.
    Unheard,
    /// It is refused in that way, too.
    Refused(Answer),
    /// In that way it is done, and was undone.
    Accepted,
    /// In that way it is done, and could not be undone.
    Stuck(Error),
}

/// A look at a device on which a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The look failed, too, in words: nothing is known.
    Unknown(String),
    /// There is no such device.
    Gone,
    There(Seen),
}

/// A device on which a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) device: Device,
    /// Devices above it that run a program.
    pub(crate) uppers: Vec<String>,
}

/// What is known of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judgement<K> {
    /// Why it failed.
    Known(K),
    /// It may be a refusal.
    Refusal(Refusal),
    /// The kernel has a reason that cannot be seen from here; its words may tell.
    Unseen,
    /// It failed for a reason of its own.
    Failed,
    /// The look for a reason failed, in words: it is attempted again.
    Blind(String),
}

/// How attempts ended.
#[derive(Debug)]
enum End<K> {
    Known(Errno, K),
    /// With the words for this errno.
    Refused(Errno, Refusal, Option<String>),
    /// The same.
    Failed(Errno, Option<String>),
    /// Each look for the reason failed.
    Blind(Errno, String),
    Stuck(Error),
}

/// How often something is attempted whose answers differ.
const ATTEMPTS: usize = 5;

/// Attempts until it is done, or it is known why it is not. What looks like a refusal is one if it comes twice in a row
/// and is not denied by asking otherwise.
fn settle<T, K>(
    mut attempt: impl FnMut() -> Result<T, Errno>,
    mut judge: impl FnMut(Errno) -> Judgement<K>,
    ask: impl FnOnce() -> Asked,
) -> Result<T, End<K>> {
    let mut ask = Some(ask);
    let mut before = None;
    let mut blind = None;
    for _ in 0..ATTEMPTS {
        let errno = match attempt() {
            Ok(done) => return Ok(done),
            Err(errno) => errno,
        };
        let refusal = match judge(errno) {
            Judgement::Known(why) => return Err(End::Known(errno, why)),
            Judgement::Failed => return Err(End::Failed(errno, None)),
            Judgement::Refusal(refusal) => Some(refusal),
            Judgement::Unseen => None,
            Judgement::Blind(why) => {
                blind = Some(End::Blind(errno, why));
                continue;
            }
        };
        if before.replace(errno) != Some(errno) {
            continue;
        }
        // Twice refused, once accepted, and twice refused again: there is no telling.
        let Some(ask) = ask.take() else { return Err(End::Failed(errno, None)) };
        let words = match ask() {
            Asked::Accepted => {
                before = None;
                continue;
            }
            Asked::Stuck(error) => return Err(End::Stuck(error)),
            Asked::Refused(answer) if answer.errno == errno => answer.words,
            Asked::Unheard | Asked::Refused(_) => None,
        };
        return Err(match refusal {
            Some(refusal) => End::Refused(errno, refusal, words),
            None => End::Failed(errno, words),
        });
    }
    Err(blind.unwrap_or(End::Failed(before.unwrap_or(Errno::AGAIN), None)))
}

/// What a device shows of why nothing can be attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    Gone,
    Taken(Attached),
    Upper(String),
}

/// Why an attempt to attach in `mode`, in the place of `replaced` or of nothing, ended with this errno.
fn judge_attach(
    errno: Errno,
    mode: XdpMode,
    replaced: Option<ProgramId>,
    sight: &Sight,
) -> Judgement<Obstacle> {
    let seen = match sight {
        Sight::Unknown(why) => return Judgement::Blind(why.clone()),
        Sight::Gone => return Judgement::Known(Obstacle::Gone),
        Sight::There(seen) => seen,
    };
    if [Errno::BUSY, Errno::EXIST].contains(&errno) {
        // Native and generic exclude each other.
        let excludes = |other: XdpMode| (other == XdpMode::Offload) == (mode == XdpMode::Offload);
        let mut others = seen.device.xdp.iter().filter(|attached| excludes(attached.mode));
        if let Some(by) = others.find(|attached| Some(attached.program_id) != replaced) {
            return Judgement::Known(Obstacle::Taken(*by));
        }
    }
    if errno == Errno::EXIST {
        // What lies above may be in another namespace.
        let upper = seen.uppers.first().cloned();
        return upper.map_or(Judgement::Unseen, |upper| Judgement::Known(Obstacle::Upper(upper)));
    }
    Refusal::of(errno).map_or(Judgement::Failed, Judgement::Refusal)
}

/// Attaches in the calling thread's network namespace. `attempt` does it, `look` looks at the device, if need be with the
/// devices above it, and `ask` asks in another way why it is refused.
pub(crate) fn attach<T>(
    mode: XdpMode,
    replaced: Option<ProgramId>,
    attempt: impl FnMut() -> Result<T, Errno>,
    look: impl Fn(bool) -> Sight,
    ask: impl FnOnce() -> Asked,
) -> Result<T, NotAttached> {
    let mut mtu = 0;
    let judge = |errno| {
        let sight = look(errno == Errno::EXIST);
        if let Sight::There(seen) = &sight {
            mtu = seen.device.mtu;
        }
        judge_attach(errno, mode, replaced, &sight)
    };
    settle(attempt, judge, ask).map_err(|end| NotAttached { end, mtu })
}

/// Why something was not attached, before the call is named that failed.
#[derive(Debug)]
pub(crate) struct NotAttached {
    end: End<Obstacle>,
    mtu: u32,
}

impl NotAttached {
    /// As an error of this call; with the kernel's words for its last answer, where the call brings its own.
    pub(crate) fn of(self, call: &'static str, object: String, own: Option<String>) -> AttachError {
        let error = |errno, words: Option<String>| Error::new(call, object, errno).explained(words.or(own));
        match self.end {
            // An absent device can have several numbers: BPF_LINK_CREATE says EINVAL.
            End::Known(_, Obstacle::Gone) => AttachError::DeviceGone(error(Errno::NODEV, None)),
            End::Known(errno, Obstacle::Taken(by)) => AttachError::Taken { by, error: error(errno, None) },
            End::Known(errno, Obstacle::Upper(upper)) => {
                AttachError::UpperDevice { upper, error: error(errno, None) }
            }
            End::Refused(errno, refusal, words) => {
                AttachError::Refused { refusal, mtu: self.mtu, error: error(errno, words) }
            }
            End::Failed(errno, words) => AttachError::Failed(error(errno, words)),
            End::Blind(errno, why) => AttachError::Failed(error(errno, None).unseen(&why)),
            End::Stuck(error) => AttachError::Failed(error),
        }
    }
}

/// What a link shows of why its program cannot be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Defunct,
    Replaced(ProgramId),
}

/// Why an update of a link that was to run a program ended with this errno, by that program and what the link shows.
fn judge_update(errno: Errno, seen: Result<(ProgramId, LinkInfo)>) -> Judgement<Change> {
    let (expected, info) = match seen {
        Ok(seen) => seen,
        Err(error) => return Judgement::Blind(error.to_string()),
    };
    if info.ifindex().is_none() {
        Judgement::Known(Change::Defunct)
    } else if info.program_id != expected {
        Judgement::Known(Change::Replaced(info.program_id))
    } else {
        Refusal::of(errno).map_or(Judgement::Failed, Judgement::Refusal)
    }
}

/// Updates a link. `attempt` does it, `look` reads the expected program and the link.
pub(crate) fn update(
    call: &'static str,
    object: &str,
    attempt: impl FnMut() -> Result<(), Errno>,
    look: impl Fn() -> Result<(ProgramId, LinkInfo)>,
) -> Result<(), UpdateError> {
    let error = |errno| Error::new(call, object, errno);
    let judge = |errno| judge_update(errno, look());
    settle(attempt, judge, || Asked::Unheard).map_err(|end| match end {
        End::Known(_, Change::Defunct) => UpdateError::Defunct(error(Errno::NOLINK)),
        End::Known(errno, Change::Replaced(by)) => UpdateError::Replaced { by, error: error(errno) },
        End::Refused(errno, refusal, _) => UpdateError::Refused { refusal, error: error(errno) },
        End::Failed(errno, _) => UpdateError::Failed(error(errno)),
        End::Blind(errno, why) => UpdateError::Failed(error(errno).unseen(&why)),
        End::Stuck(error) => UpdateError::Failed(error),
    })
}

/// Why a program was not removed, before the call is named that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotDetached {
    Gone,
    Replaced(Option<ProgramId>),
    Upper(String),
    Failed,
    /// The look for a reason failed, in words.
    Blind(String),
}

/// Why an attempt to remove `expected` from `mode` ended with this errno.
pub(crate) fn judge_detach(
    errno: Errno,
    mode: XdpMode,
    expected: Option<ProgramId>,
    sight: Sight,
) -> NotDetached {
    let seen = match sight {
        Sight::Unknown(why) => return NotDetached::Blind(why),
        Sight::Gone => return NotDetached::Gone,
        Sight::There(seen) => seen,
    };
    let runs = seen.device.xdp.iter().find(|attached| attached.mode == mode).map(|a| a.program_id);
    if expected.is_some() && runs != expected {
        return NotDetached::Replaced(runs);
    }
    match seen.uppers.into_iter().next() {
        Some(upper) if errno == Errno::EXIST => NotDetached::Upper(upper),
        _ => NotDetached::Failed,
    }
}

impl NotDetached {
    pub(crate) fn of(
        self,
        call: &'static str,
        object: String,
        errno: Errno,
        words: Option<String>,
    ) -> DetachError {
        let error = |errno| Error::new(call, object, errno).explained(words);
        match self {
            Self::Gone => DetachError::DeviceGone(error(Errno::NODEV)),
            Self::Replaced(by) => DetachError::Replaced { by, error: error(errno) },
            Self::Upper(upper) => DetachError::UpperDevice { upper, error: error(errno) },
            Self::Failed => DetachError::Failed(error(errno)),
            Self::Blind(why) => DetachError::Failed(error(errno).unseen(&why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::link::LinkKind;
    use xdpd_types::{IfIndex, LinkId};

    const NUMBERS: [Errno; 14] = [
        Errno::IO,
        Errno::ACCESS,
        Errno::PERM,
        Errno::NOENT,
        Errno::NODEV,
        Errno::NOLINK,
        Errno::AGAIN,
        Errno::EXIST,
        Errno::OPNOTSUPP,
        Errno::RANGE,
        Errno::INVAL,
        Errno::NOSPC,
        Errno::NOMEM,
        Errno::BUSY,
    ];

    fn runs(mode: XdpMode, id: u32) -> Attached {
        Attached { mode, program_id: ProgramId(id) }
    }

    fn there(xdp: &[Attached], uppers: &[&str]) -> Sight {
        let device = Device {
            ifindex: IfIndex(3),
            name: "eth0".into(),
            alt_names: Vec::new(),
            mtu: 1500,
            xdp: xdp.to_vec(),
        };
        Sight::There(Seen { device, uppers: uppers.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn no_number_makes_a_free_device_taken_or_gone() {
        for errno in NUMBERS {
            let judged = judge_attach(errno, XdpMode::Native, None, &there(&[], &[]));
            let otherwise = if errno == Errno::EXIST { Judgement::Unseen } else { Judgement::Failed };
            let expected = Refusal::of(errno).map_or(otherwise, Judgement::Refusal);
            assert_eq!(judged, expected, "{errno:?}");
            assert_eq!(
                judge_attach(errno, XdpMode::Native, None, &Sight::Unknown("x".into())),
                Judgement::Blind("x".into())
            );
            let gone = Judgement::Known(Obstacle::Gone);
            assert_eq!(judge_attach(errno, XdpMode::Native, None, &Sight::Gone), gone);
        }
        let refusals = NUMBERS.iter().filter(|errno| Refusal::of(**errno).is_some()).count();
        assert_eq!(refusals, 6);
    }

    #[test]
    fn a_device_is_taken_by_what_excludes_the_mode() {
        use XdpMode::{Generic, Native, Offload};
        let taken = |mode, by, errno| judge_attach(errno, mode, None, &there(&[by], &[]));
        for (mode, other) in [(Native, Native), (Native, Generic), (Generic, Native), (Offload, Offload)] {
            for errno in [Errno::BUSY, Errno::EXIST] {
                let by = runs(other, 7);
                assert_eq!(taken(mode, by, errno), Judgement::Known(Obstacle::Taken(by)));
            }
            // What runs there is not why this call failed.
            assert_eq!(taken(mode, runs(other, 7), Errno::IO), Judgement::Failed);
        }
        assert_eq!(taken(Native, runs(Offload, 7), Errno::BUSY), Judgement::Refusal(Refusal::Busy));
        let replaced = judge_attach(Errno::BUSY, Native, Some(ProgramId(7)), &there(&[runs(Native, 7)], &[]));
        assert_eq!(replaced, Judgement::Refusal(Refusal::Busy));
    }

    #[test]
    fn a_program_above_is_named_where_nothing_runs_on_the_device_itself() {
        let judge = |xdp: &[Attached], errno| {
            judge_attach(errno, XdpMode::Generic, None, &there(xdp, &["br0", "br1"]))
        };
        assert_eq!(judge(&[], Errno::EXIST), Judgement::Known(Obstacle::Upper("br0".into())));
        assert_eq!(judge(&[], Errno::BUSY), Judgement::Refusal(Refusal::Busy));
        let by = runs(XdpMode::Native, 7);
        assert_eq!(judge(&[by], Errno::EXIST), Judgement::Known(Obstacle::Taken(by)));
    }

    #[test]
    fn an_update_fails_for_what_the_link_shows() {
        let info = |program, ifindex: Option<u32>| LinkInfo {
            id: LinkId(1),
            program_id: ProgramId(program),
            kind: LinkKind::Xdp { ifindex: ifindex.map(IfIndex) },
        };
        for errno in NUMBERS {
            let judge = |info| judge_update(errno, Ok((ProgramId(7), info)));
            let expected = Refusal::of(errno).map_or(Judgement::Failed, Judgement::Refusal);
            assert_eq!(judge(info(7, Some(3))), expected, "{errno:?}");
            assert_eq!(judge(info(8, Some(3))), Judgement::Known(Change::Replaced(ProgramId(8))));
            assert_eq!(judge(info(7, None)), Judgement::Known(Change::Defunct));
            let blind = judge_update(errno, Err(Error::invalid("a look", "link 1", "denied")));
            assert_eq!(blind, Judgement::Blind("a look of link 1: denied".into()));
        }
    }

    #[test]
    fn a_removal_fails_for_what_the_device_shows() {
        let (native, generic) = (runs(XdpMode::Native, 7), runs(XdpMode::Generic, 8));
        for errno in NUMBERS {
            let judge = |sight| judge_detach(errno, XdpMode::Native, Some(ProgramId(7)), sight);
            assert_eq!(judge(there(&[native], &[])), NotDetached::Failed, "{errno:?}");
            assert_eq!(judge(there(&[generic], &[])), NotDetached::Replaced(None));
            let other = runs(XdpMode::Native, 9);
            assert_eq!(judge(there(&[other], &["br0"])), NotDetached::Replaced(Some(ProgramId(9))));
            assert_eq!(judge(Sight::Gone), NotDetached::Gone);
            assert_eq!(judge(Sight::Unknown("x".into())), NotDetached::Blind("x".into()));
            let above = judge(there(&[native], &["br0"])) == NotDetached::Upper("br0".into());
            assert_eq!(above, errno == Errno::EXIST, "{errno:?}");
        }
    }

    #[test]
    fn a_look_that_fails_is_repeated_with_the_attempt_and_told_if_it_always_does() {
        let end = |fails: usize| {
            let mut looks = 0;
            let judge = |_| {
                looks += 1;
                if looks <= fails {
                    Judgement::<()>::Blind("denied".into())
                } else {
                    Judgement::Refusal(Refusal::Busy)
                }
            };
            settle(|| Err::<(), _>(Errno::BUSY), judge, || Asked::Unheard).unwrap_err()
        };
        assert!(matches!(end(1), End::Refused(Errno::BUSY, Refusal::Busy, None)));
        assert!(matches!(end(ATTEMPTS), End::Blind(Errno::BUSY, why) if why == "denied"));
    }

    /// Attempts that end so, one after the other, on a device that shows nothing; how that ends, in short, and how many
    /// attempts were made.
    fn attempts(ends: &[Result<(), Errno>], asked: impl FnOnce() -> Asked) -> (String, usize) {
        let made = Cell::new(0);
        let attempt = || {
            made.set(made.get() + 1);
            ends[made.get() - 1]
        };
        let judge = |errno| match Refusal::of(errno) {
            Some(refusal) => Judgement::<()>::Refusal(refusal),
            None if errno == Errno::EXIST => Judgement::Unseen,
            None => Judgement::Failed,
        };
        let end = match settle(attempt, judge, asked) {
            Ok(()) => "done".to_owned(),
            Err(End::Refused(errno, refusal, words)) => {
                assert_eq!(Refusal::of(errno), Some(refusal));
                format!("refused {refusal:?} {}", words.unwrap_or_default())
            }
            Err(End::Failed(errno, words)) => {
                format!("failed {} {}", errno.raw_os_error(), words.unwrap_or_default())
            }
            Err(End::Blind(errno, why)) => format!("blind {} {why}", errno.raw_os_error()),
            Err(End::Stuck(error)) => error.to_string(),
            Err(End::Known(..)) => unreachable!(),
        };
        (end.trim_end().to_owned(), made.get())
    }

    #[test]
    fn a_refusal_is_one_that_comes_twice() {
        const SPACE: Result<(), Errno> = Err(Errno::NOSPC);
        const BUSY: Result<(), Errno> = Err(Errno::BUSY);
        const EXIST: Result<(), Errno> = Err(Errno::EXIST);
        let heard = |errno| move || Asked::Refused(Answer { errno, words: Some("Too few".into()) });
        let never = || -> Asked { unreachable!() };
        let end = |text: &str, made| (text.to_owned(), made);
        // Once only, by whatever: the device takes it.
        assert_eq!(attempts(&[SPACE, Ok(())], never), end("done", 2));
        assert_eq!(attempts(&[SPACE, BUSY, Ok(())], never), end("done", 3));
        assert_eq!(attempts(&[SPACE, SPACE], heard(Errno::NOSPC)), end("refused NoSpace Too few", 2));
        // Nothing that another mode would help against, but the kernel may say what.
        assert_eq!(attempts(&[EXIST, EXIST], heard(Errno::EXIST)), end("failed 17 Too few", 2));
        assert_eq!(attempts(&[EXIST, Ok(())], never), end("done", 2));
        // Words for something else are not taken for it.
        assert_eq!(attempts(&[SPACE, SPACE], heard(Errno::BUSY)), end("refused NoSpace", 2));
        assert_eq!(attempts(&[BUSY, SPACE, SPACE], || Asked::Unheard), end("refused NoSpace", 3));
        assert_eq!(attempts(&[SPACE, BUSY, SPACE, BUSY, SPACE], never), end("failed 28", 5));
        assert_eq!(attempts(&[SPACE, Err(Errno::IO)], never), end("failed 5", 2));
        assert_eq!(attempts(&[Err(Errno::PERM)], never), end("failed 1", 1));
    }

    #[test]
    fn a_refusal_that_netlink_denies_is_none() {
        const SPACE: Result<(), Errno> = Err(Errno::NOSPC);
        let accepted = || Asked::Accepted;
        assert_eq!(attempts(&[SPACE, SPACE, Ok(())], accepted), ("done".to_owned(), 3));
        let contradicted = attempts(&[SPACE, SPACE, SPACE, SPACE], accepted);
        assert_eq!(contradicted, ("failed 28".to_owned(), 4));
        let stuck = || Asked::Stuck(Error::invalid("RTM_SETLINK", "interface 3 (native)", "stuck"));
        assert_eq!(attempts(&[SPACE, SPACE], stuck).0, "RTM_SETLINK of interface 3 (native): stuck");
    }
}
