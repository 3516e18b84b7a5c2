//! What entries under the pin root are called: the prefixes of what an apply keeps there for a while, and pins of maps.

use xdpd_config::escape::{escape, unescape};

/// Prefix of a directory that is being put together, or of the one it was exchanged with.
pub const NEXT: &str = "%next-";
/// Prefix of a directory that is being removed.
pub const OLD: &str = "%old-";
/// Prefix of a directory that keeps a program of someone else's until ours has taken its place for good.
pub const TAKEN: &str = "%taken-";
/// Prefix of a map that tells what global variables held before an apply wrote them.
pub const FORMER: &str = "%former-";
/// Prefix of a directory with the maps whose entries are on their way.
pub const SNAP: &str = "%snap-";
/// The directory whose lock apply and detach hold.
pub const LOCK: &str = "%lock";
/// A symlink in it: how many directories of the pin root's path were made along with it. So detach removes those that xdpd
/// has made, and not one that the operator has.
pub const MADE: &str = "made";

/// File name of a map's pin.
pub fn map_pin(map: &str) -> String {
    escape(map)
}

/// Names with `%` and no two hex digits are ours: what an interrupted step left, to go with its directory.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('%') && unescape(name).is_none()
}
