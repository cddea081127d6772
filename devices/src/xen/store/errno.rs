//! The errors of the store, which travel by name. Source: public/io/xs_wire.h, `xsd_errors`.

macro_rules! errnos {
    ($($name:ident $text:literal: $doc:literal,)*) => {
        /// Why a request failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Errno {
            $(#[doc = $doc] $name,)*
        }
        impl Errno {
            /// The name that an `XS_ERROR` reply carries.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

errnos! {
    Einval "EINVAL": "The request is malformed.",
    Eacces "EACCES": "Permission denied.",
    Eexist "EEXIST": "There is such a watch already.",
    Enoent "ENOENT": "No such node, watch or transaction.",
    Enomem "ENOMEM": "A transaction has become too large.",
    Enospc "ENOSPC": "A quota is used up.",
    Enosys "ENOSYS": "No such request.",
    Ebusy "EBUSY": "Transactions do not nest.",
    Eagain "EAGAIN": "Someone else changed what the transaction has seen.",
    E2big "E2BIG": "Too long for one reply, or too many watches.",
    Eperm "EPERM": "A guest cannot give a node away.",
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
impl core::error::Error for Errno {}
