//! The device of an interface: that it came and went.

use xdpd_kernel::IfIndex;

use super::Sight;
use crate::record::Event;

/// What was last known of the device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Device {
    Unknown,
    Here(IfIndex),
    Gone,
}

impl Device {
    pub(super) fn observe(&mut self, sight: Sight, events: &mut Vec<Event>) {
        *self = match (*self, sight) {
            (Self::Here(index), Sight::Absent) => {
                events.push(Event::InterfaceGone(index));
                Self::Gone
            }
            (before, Sight::Hidden | Sight::Absent) => before,
            (Self::Here(old), Sight::Present(new)) if old != new => {
                events.push(Event::InterfaceGone(old));
                events.push(Event::InterfaceUp(new));
                Self::Here(new)
            }
            (Self::Gone, Sight::Present(index)) => {
                events.push(Event::InterfaceUp(index));
                Self::Here(index)
            }
            (_, Sight::Present(index)) => Self::Here(index),
        }
    }
}
