//! How a map stands to its interface: from one tick to the next, and at the tick at which it is read.

/// What is known of a map between two ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Current,
    /// Replaced since the tick before: a program that ran during the replacement may count once more.
    Replaced,
    /// Not pinned any more since the tick before, but not known to be replaced.
    Unpinned,
    /// Not pinned any more. A program may go on counting in it, and it may turn up again, if only as a retired one.
    Away,
    /// Final, and not read any more.
    Settled,
}

/// The part that a map plays at the tick at which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Current,
    /// Another one has taken its place since the last tick.
    Replaced,
    /// Its pin is gone.
    Unpinned,
    /// Its pin cannot be read now, but its descriptor is still there.
    OutOfSight,
    /// It was replaced at the tick before, and is read a last time.
    Trailing,
    /// It was unpinned at the tick before, and is read a last time unless it turns up again.
    Leaving,
}

impl Role {
    pub(super) fn standing(self) -> Standing {
        match self {
            Self::Current | Self::OutOfSight => Standing::Current,
            Self::Replaced => Standing::Replaced,
            Self::Unpinned => Standing::Unpinned,
            Self::Trailing => Standing::Settled,
            Self::Leaving => Standing::Away,
        }
    }

    /// Whether its sample is due even when nothing was counted: at every tick for the current map, and for each map of a
    /// replacement.
    pub(super) fn tells_zeros(self) -> bool {
        matches!(self, Self::Current | Self::Replaced)
    }
}
