//! Tells a service manager how a service is doing, by systemd's protocol: datagrams to the socket that `$NOTIFY_SOCKET`
//! names (`sd_notify(3)`).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use xdpd_config::terminal::printable;
use xdpd_kernel::clock;

/// The manager, if there is one that wants to know.
#[derive(Debug)]
pub(crate) struct Service {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// What it was told last.
    told: String,
}

impl Service {
    /// The manager that the environment names.
    pub(crate) fn from_env() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name).ok());
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        Self { socket, told: String::new() }
    }

    /// It is up; `systemctl status` shows how it is.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell(format!("READY=1\nSTATUS={}", printable(status)));
    }

    /// The file is read again because somebody asked for it.
    pub(crate) fn reloading(&mut self) {
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_ns() / 1000));
    }

    /// It ends.
    pub(crate) fn stopping(&mut self) {
        self.tell("STOPPING=1".to_owned());
    }

    /// A manager that does not listen is no reason to stop.
    fn tell(&mut self, state: String) {
        if let Some((socket, address)) = &self.socket
            && state != self.told
        {
            let _ = socket.send_to_addr(state.as_bytes(), address);
            self.told = state;
        }
    }
}

/// A path, or a name in the abstract namespace after an `@`.
fn address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
