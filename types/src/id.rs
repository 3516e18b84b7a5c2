//! Numbers the kernel hands out, one type each so that they cannot be mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A map's id. Ids of BPF objects grow and are reused only after 2³¹ others, so an id is an identity.
    MapId
}
id! {
    /// A program's id.
    ProgramId
}
id! {
    /// A link's id.
    LinkId
}
id! {
    /// The id of a BTF object (type information) in the kernel.
    BtfId
}
id! {
    /// A network device's index: unique within its network namespace, not beyond it.
    IfIndex
}
