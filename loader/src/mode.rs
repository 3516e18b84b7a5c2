//! The attach mode in the words of the file and in those of the kernel crate, which do not know each other.

use xdpd_config::Mode;
use xdpd_kernel::XdpMode;

/// The kernel's word for a mode of the file.
pub(crate) fn to_kernel(mode: Mode) -> XdpMode {
    match mode {
        Mode::Native => XdpMode::Native,
        Mode::Generic => XdpMode::Generic,
        Mode::Offload => XdpMode::Offload,
    }
}

/// The file's word for a mode of the kernel.
pub(crate) fn of_kernel(mode: XdpMode) -> Mode {
    match mode {
        XdpMode::Native => Mode::Native,
        XdpMode::Generic => Mode::Generic,
        XdpMode::Offload => Mode::Offload,
    }
}
