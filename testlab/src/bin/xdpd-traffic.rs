//! Sends an exact number of frames, for scripts: prints how many the peer has taken.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use xdpd_kernel::NetNs;
use xdpd_testlab::Sender;

/// Sends raw Ethernet frames out of a device and prints how many the peer has taken.
#[derive(Debug, Parser)]
struct Arguments {
    /// The network namespace of the device, a name under /run/netns or a path
    #[arg(long)]
    netns: PathBuf,
    /// The device to send from
    #[arg(long)]
    device: String,
    /// Length of a frame in bytes, Ethernet header included
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Send so many frames, as fast as the peer takes them
    #[arg(long, conflicts_with = "rate", required_unless_present = "rate")]
    count: Option<u64>,
    /// Send so many frames per second until SIGINT or SIGTERM
    #[arg(long)]
    rate: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(io::stderr(), "xdpd-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let netns = NetNs::open(&arguments.netns).map_err(io::Error::other)?;
    let sender = netns.run(|| Sender::open(&arguments.device)).map_err(io::Error::other)??;
    let sender = sender.size(arguments.size);
    let sent = match (arguments.count, arguments.rate) {
        (Some(count), _) => sender.send(count),
        (None, rate) => {
            let stop = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM] {
                signal_hook::flag::register(signal, Arc::clone(&stop))?;
            }
            let sent = AtomicU64::new(0);
            sender.pace(rate.unwrap_or_default(), &stop, &sent)?;
            sent.load(Ordering::Relaxed)
        }
    };
    writeln!(io::stdout(), "{sent}")
}
