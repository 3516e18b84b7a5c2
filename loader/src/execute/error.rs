//! Why a step failed, in the words that people read.

use std::time::Duration;

use libc::{EBUSY, EEXIST, EINVAL, EMFILE, ENODEV, ENOENT, ENOLINK, EOPNOTSUPP, EPERM, ERANGE};
use xdpd_config::Label;
use xdpd_kernel::PinError;

use super::carry::CarryError;
use crate::engine::EngineError;
use crate::interrupt::Interrupted as Signal;
use crate::privileges::MORE_FILES;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A call to the kernel.
    #[error("{what}: {source}{}", hint(.source))]
    Kernel {
        /// The interface and what was being done.
        what: String,
        /// The call that failed.
        source: xdpd_kernel::Error,
    },
    /// Loading a program.
    #[error("{label}: cannot load {function}: {source}")]
    Engine {
        /// The interface.
        label: String,
        /// The function.
        function: String,
        /// Why.
        source: EngineError,
    },
    /// Carrying entries over.
    #[error("{label}: cannot {what}: {source}")]
    Carry {
        /// The interface.
        label: String,
        /// What was being done.
        what: &'static str,
        /// Why.
        source: CarryError,
    },
    /// The run would come to its limit of open files.
    #[error(
        "this process may not have as many open files as this takes, {missing} more at least; {MORE_FILES}"
    )]
    OpenFiles {
        /// How many are missing, as far as it got.
        missing: u64,
    },
    /// A signal asked to stop.
    #[error("interrupted by {0}")]
    Interrupted(#[from] Signal),
    /// The result is not what was planned.
    #[error("{0}")]
    Verification(String),
    /// Nobody confirmed it.
    #[error("not confirmed within {}", humantime::format_duration(*.0))]
    Unconfirmed(Duration),
}

impl StepError {
    /// The verifier's log, where that is the cause.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Self::Engine { source: EngineError::Rejected { log, .. }, .. } => Some(log),
            _ => None,
        }
    }
}

/// What an errno means to an operator, of attaching most of all.
fn hint(error: &xdpd_kernel::Error) -> String {
    let hint = match (error.call(), error.errno().unwrap_or(0)) {
        (_, EMFILE) => return format!("; {MORE_FILES}"),
        ("BPF_LINK_CREATE", EOPNOTSUPP) => {
            "; the driver has no such mode, mode = [\"native\", \"generic\"] falls back"
        }
        ("BPF_LINK_CREATE", ERANGE) => {
            "; the MTU is too large for native XDP without frags, lower it or use mode = \"generic\""
        }
        ("BPF_LINK_CREATE", EINVAL) => "; the device cannot run this program in this mode",
        ("BPF_LINK_CREATE", EBUSY | EEXIST) => {
            "; another program was attached meanwhile, `xdpd diff` names it"
        }
        ("BPF_LINK_UPDATE", EPERM) => "; another program was attached meanwhile, apply again",
        ("RTM_SETLINK", EEXIST) => {
            "; the program to take over was removed or replaced meanwhile, apply again"
        }
        _ => "",
    };
    hint.to_owned()
}

/// The device, or its namespace, is no longer there.
pub(super) fn has_vanished(error: &xdpd_kernel::Error) -> bool {
    match error.call() {
        "BPF_LINK_CREATE" | "BPF_LINK_UPDATE" | "RTM_SETLINK" => {
            error.errno().is_some_and(|errno| [ENODEV, ENOLINK].contains(&errno))
        }
        // Of a namespace.
        "open" => error.errno() == Some(ENOENT),
        _ => false,
    }
}

/// Without a device there is nothing that could be put back on it.
pub(super) fn unless_vanished(result: Result<(), xdpd_kernel::Error>) -> Result<(), xdpd_kernel::Error> {
    result.or_else(|e| if has_vanished(&e) { Ok(()) } else { Err(e) })
}

pub(super) fn pin_at<'l>(label: &'l Label, what: &'l str) -> impl FnOnce(PinError) -> StepError + 'l {
    move |error| match error {
        PinError::Kernel(source) => kernel(label, what, source),
        wrong @ (PinError::Gone { .. } | PinError::WrongType { .. }) => {
            StepError::Verification(format!("{label}: cannot {what}: {wrong}"))
        }
    }
}

/// A signal is one wherever it comes.
pub(super) fn carry_at(label: &Label, what: &'static str) -> impl FnOnce(CarryError) -> StepError {
    move |error| match error {
        CarryError::Interrupted(signal) => signal.into(),
        CarryError::Kernel(source) => kernel(label, what, source),
        source => StepError::Carry { label: label.to_string(), what, source },
    }
}

pub(super) fn at<'l>(label: &'l Label, what: &'l str) -> impl FnOnce(xdpd_kernel::Error) -> StepError + 'l {
    move |source| kernel(label, what, source)
}

fn kernel(label: &Label, what: &str, source: xdpd_kernel::Error) -> StepError {
    StepError::Kernel { what: format!("{label}: cannot {what}"), source }
}
