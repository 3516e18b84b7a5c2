//! Why a step failed, in the words that people read.

use xdpd_config::Label;
use xdpd_kernel::PinError;

use super::attach::{AttachFailure, Why};
use super::carry::CarryError;
use crate::engine::EngineError;
use crate::interrupt::Interrupted as Signal;
use crate::privileges::MORE_FILES;
use crate::trial::TrialError;

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
    /// Attaching, replacing or detaching a program.
    #[error("{label}: cannot {what}: {source}{}{}", files(.source), told(.advice.as_deref()))]
    Attach {
        /// The interface.
        label: String,
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: Box<AttachFailure>,
        /// What may help.
        advice: Option<String>,
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
    /// The trial that it was on ended without a confirmation.
    #[error(transparent)]
    Trial(TrialError),
}

/// A signal is one wherever it comes, and so is a call that failed.
impl From<TrialError> for StepError {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Kernel(source) => {
                Self::Kernel { what: "cannot wait for a confirmation".into(), source }
            }
            TrialError::Interrupted(signal) => signal.into(),
            TrialError::Unconfirmed(_) => Self::Trial(error),
        }
    }
}

impl StepError {
    /// The device, or its namespace, is no longer there.
    pub(super) fn is_vanished(&self) -> bool {
        matches!(self, Self::Attach { source, .. } if source.is_vanished())
    }

    /// The verifier's log, where that is the cause.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Self::Engine { source: EngineError::Rejected { log, .. }, .. } => Some(log),
            _ => None,
        }
    }
}

/// What to do about a call that failed, where that is known.
fn hint(error: &xdpd_kernel::Error) -> String {
    if error.is_out_of_files() { format!("; {MORE_FILES}") } else { String::new() }
}

fn files(failure: &AttachFailure) -> String {
    if let Why::Failed(error) = &failure.why { hint(error) } else { String::new() }
}

fn told(advice: Option<&str>) -> String {
    advice.map_or_else(String::new, |advice| format!("; {advice}"))
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
