//! Why a step failed, in the words that people read.

use std::time::Duration;

use libc::{EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOLINK, EOPNOTSUPP, EPERM, ERANGE};
use xdpd_config::Label;
use xdpd_kernel::PinError;

use crate::engine::EngineError;
use crate::interrupt::Interrupted as Signal;

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

/// What an errno of attaching means to an operator.
fn hint(error: &xdpd_kernel::Error) -> &'static str {
    match (error.call(), error.errno()) {
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
    }
}

/// The device, or its namespace, is no longer there.
pub(super) fn has_vanished(error: &xdpd_kernel::Error) -> bool {
    match error.call() {
        "BPF_LINK_CREATE" | "BPF_LINK_UPDATE" | "RTM_SETLINK" => [ENODEV, ENOLINK].contains(&error.errno()),
        // Of a namespace.
        "open" => error.errno() == ENOENT,
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
        wrong @ PinError::WrongType { .. } => {
            StepError::Verification(format!("{label}: cannot {what}: {wrong}"))
        }
    }
}

pub(super) fn at<'l>(label: &'l Label, what: &'l str) -> impl FnOnce(xdpd_kernel::Error) -> StepError + 'l {
    move |source| kernel(label, what, source)
}

fn kernel(label: &Label, what: &str, source: xdpd_kernel::Error) -> StepError {
    StepError::Kernel { what: format!("{label}: cannot {what}"), source }
}
