//! Frames in exact numbers: what [`Sender::send`] returns is what an XDP program at the other end of the veth
//! pair sees.
//!
//! # Why nothing is lost
//!
//! A veth device hands a frame to its peer through a ring of 256 entries (native XDP) or the CPU's backlog
//! queue (generic XDP), and drops it when that is full. The drop is not silent: the transmit path answers
//! `NET_XMIT_DROP`, which an `AF_PACKET` socket turns into `ENOBUFS`. The sender takes that as "not sent" and
//! tries the frame again, so every frame it counts is one that the peer has taken. Measured with four senders
//! on two CPUs: a small program kept up with 300,000 frames and refused none; one that takes some 10 us per
//! frame refused 38,000 to 56,000 times while it took 60,000 frames, and counted exactly 60,000.
//! `tests::every_frame_sent_is_counted` is the second of them, in both modes.
//!
//! The peer handles its ring in the background: wait for the last counts ([`crate::wait_until`]), and do so
//! before detaching, which throws away what is still in the ring.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// An Ethernet header is the least that a device accepts.
const HEADER: usize = 14;

/// `IEEE 802 Local Experimental Ethertype 1`: no protocol of the kernel's answers to it.
const ETHERTYPE: [u8; 2] = 0x88B5_u16.to_be_bytes();

/// Sends frames out of one device of the far namespace.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    frame: Vec<u8>,
}

/// Frames sent in the background at a given rate until [`Traffic::stop`].
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sender {
    /// Opens a packet socket on `device` of the calling thread's network namespace. Frames have 64 bytes.
    pub fn open(device: &str) -> io::Result<Self> {
        let address = getifaddrs()?
            .filter(|interface| interface.interface_name == device)
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::other("no such device"))?;
        // Without a protocol the socket receives nothing, so its queue cannot fill.
        let socket =
            nix::sys::socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
        Ok(Self { socket, frame: Vec::new() }.size(64))
    }

    /// Sends frames of `bytes` from now on, Ethernet header included: the length that an XDP program sees.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        assert!(bytes >= HEADER, "a frame has at least {HEADER} bytes");
        self.frame = vec![0; bytes];
        // Locally administered unicast addresses, known to no device: a frame that is passed on ends in the
        // stack.
        self.frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        self.frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        self.frame[12..HEADER].copy_from_slice(&ETHERTYPE);
        self
    }

    /// Sends IPv4 packets from this address from now on.
    #[must_use]
    pub fn from_address(mut self, source: Ipv4Addr) -> Self {
        const SOURCE: usize = HEADER + 12;
        assert!(self.frame.len() >= HEADER + 20, "room for the header of IPv4");
        self.frame[12..HEADER].copy_from_slice(&[8, 0]);
        self.frame[HEADER] = 0x45;
        self.frame[SOURCE..SOURCE + 4].copy_from_slice(&source.octets());
        self
    }

    /// Sends `count` frames as fast as the peer takes them, and returns how many it took: `count`.
    pub fn send(&self, count: u64) -> u64 {
        for sent in 0..count {
            self.send_one().unwrap_or_else(|e| panic!("after {sent} of {count} frames: {e}"));
        }
        count
    }

    /// Sends in the background until [`Traffic::stop`].
    pub fn background(self, frames_per_second: u32) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || self.pace(frames_per_second, &stopped, &counter));
        Traffic { stop, sent, thread: Some(thread) }
    }

    /// Sends `frames_per_second` until `stop` is set, counting in `sent`.
    ///
    /// # Errors
    /// What the socket answered, when the device went away or down.
    pub fn pace(&self, frames_per_second: u32, stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
        const TICK: Duration = Duration::from_millis(1);
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = start.elapsed().as_nanos() * u128::from(frames_per_second) / 1_000_000_000;
            while u128::from(sent.load(Ordering::Relaxed)) < due && !stop.load(Ordering::Relaxed) {
                self.send_one()?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn send_one(&self) -> Result<(), Errno> {
        loop {
            match rustix::net::send(&self.socket, &self.frame, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::NOBUFS) => std::thread::yield_now(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Traffic {
    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops and returns exactly how many frames were sent.
    pub fn stop(mut self) -> u64 {
        self.end().unwrap_or_else(|e| panic!("after {} frames: {e}", self.sent()));
        self.sent()
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The test is over: what the thread had to say does not matter any more.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::netns::command;
    use crate::{DEADLINE, Lab, require_root, wait_until};

    const FRAMES: u64 = 60_000;

    /// Counts packets and bytes per CPU in its only map, then drops. So slow that senders overrun it.
    const COUNTER: &str = r#"
        struct xdp_md { unsigned data, data_end; };
        struct record { long packets, bytes; };
        struct { int (*type)[6]; int (*max_entries)[1]; unsigned *key; struct record *value; }
            counts __attribute__((section(".maps"), used));
        static void *(*lookup)(void *map, const void *key) = (void *)1;
        __attribute__((section("xdp"), used)) int count(struct xdp_md *ctx) {
            for (int i = 0; i < 10000; i++) asm volatile("");
            unsigned key = 0;
            long *value = lookup(&counts, &key);
            if (value) { value[0]++; value[1] += ctx->data_end - ctx->data; }
            return 1;
        }
    "#;

    /// Loads the counter with iproute2 and reads it with bpftool: the lab is not measured with what it is to
    /// measure.
    fn attach(lab: &Lab, device: &str, mode: &str) -> impl Fn() -> (u64, u64) {
        let source = lab.write("counter.c", COUNTER);
        let object = lab.dir().join("counter.o");
        let [source, object] = [source, object].map(|path| path.display().to_string());
        command("clang-22", &["-target", "bpf", "-O2", "-g", "-c", &source, "-o", &object]);
        lab.near().ip(&format!("link set dev {device} {mode} obj {object} sec xdp"));
        let program = json(&lab.near().ip(&format!("-j -d link show dev {device}")))[0]["xdp"]["prog"]["id"]
            .to_string();
        let map =
            json(&command("bpftool", &["-j", "prog", "show", "id", &program]))["map_ids"][0].to_string();
        move || {
            let slots =
                json(&command("bpftool", &["-j", "map", "dump", "id", &map]))[0]["formatted"]["values"]
                    .take();
            let sum = |field| {
                slots
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|slot| slot["value"][field].as_u64().unwrap())
                    .sum::<u64>()
            };
            (sum("packets"), sum("bytes"))
        }
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    #[test]
    #[ignore = "needs root"]
    fn every_frame_sent_is_counted() {
        require_root!();
        for mode in ["xdpdrv", "xdpgeneric"] {
            let lab = Lab::new("flood");
            let veth = lab.veth("eth0", "peer0");
            let counts = attach(&lab, &veth.near, mode);
            assert_eq!(counts(), (0, 0), "{mode}: something else is on the wire");
            // Four senders for a receiver that shares the CPUs with them: its queue does fill.
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| lab.sender(&veth).size(128).send(FRAMES / 4));
                }
            });
            wait_until("all frames", DEADLINE, || counts().0 >= FRAMES);
            assert_eq!(counts(), (FRAMES, FRAMES * 128), "{mode}");
            println!(
                "{mode}: {} frames were refused and sent again",
                lab.far().counter(&veth.far, "tx_dropped")
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn traffic_in_the_background_is_counted_to_the_last_frame() {
        require_root!();
        let lab = Lab::new("traffic");
        let veth = lab.veth("eth0", "peer0");
        let counts = attach(&lab, &veth.near, "xdpdrv");
        let traffic = lab.sender(&veth).background(50_000);
        wait_until("some frames", DEADLINE, || traffic.sent() > 5_000);
        let sent = traffic.stop();
        wait_until("all frames", DEADLINE, || counts().0 >= sent);
        assert_eq!(counts(), (sent, sent * 64));
    }
}
