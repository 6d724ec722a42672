//! Which user a connection comes from, where the system says so.

use std::net::{IpAddr, SocketAddr};

use rustix::process::geteuid;

/// The two ends of a connection within this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) ours: SocketAddr,
}

/// How often the lists are read: one that changes meanwhile may leave a socket out.
const MAX_LOOKS: usize = 3;

/// Returns the user whose program is at the other end; `None` if no open socket of it
/// is listed, as on systems that have no such list.
pub(super) fn user(ends: Ends) -> Option<u32> {
    let look = |file| user_in(&std::fs::read_to_string(file).ok()?, ends);
    // A program may reach an IPv4 address by a socket for IPv6.
    (0..MAX_LOOKS).find_map(|_| look("/proc/net/tcp").or_else(|| look("/proc/net/tcp6")))
}

/// Whether a connection may be this user's own: it is, or the system tells nobody whose connections are.
pub(super) fn may_be_ours(user: Option<u32>) -> bool {
    user.map_or(cfg!(not(target_os = "linux")), |user| user == geteuid().as_raw())
}

/// An open connection in the list. Others, which their program has closed, are listed without their user.
const ESTABLISHED: &str = "01";

/// Finds the peer's socket in Linux's list, see proc_pid_net(5).
fn user_in(sockets: &str, Ends { peer, ours }: Ends) -> Option<u32> {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    let [plain, mapped] = [[peer, ours], [peer, ours].map(mapped)].map(|ends| ends.map(as_listed));
    sockets.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let is_it = [&plain, &mapped].into_iter().any(|[peer, ours]| local == peer && remote == ours);
        // After queues, timer and retransmissions.
        if is_it && state == ESTABLISHED { words.nth(3)?.parse().ok() } else { None }
    })
}

/// Writes an address as the list has it: groups of four bytes, each as a number of this machine.
fn as_listed(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let number = |group: &[u8]| group.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    let groups: String = bytes.chunks(4).map(|group| format!("{:08X}", number(group))).collect();
    format!("{groups}:{:04X}", address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    #[test]
    #[cfg(target_endian = "little")]
    fn the_other_end_is_found_by_both_addresses() {
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                       0: 0100007F:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n   \
                       1: 0100007F:C350 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0\n   \
                       2: 0100007F:9C40 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0\n   \
                       3: 0100007F:C351 0100007F:9C40 04 00000000:00000000 00:00000000 00000000     0        0 0 1 0\n   \
                       4: 0000000000000000FFFF00000100007F:C352 0000000000000000FFFF00000100007F:9C40 01 \
                          00000000:00000000 00:00000000 00000000  1002        0 4 1 0\n";
        let ends = |peer: &str, ours: &str| Ends { peer: peer.parse().unwrap(), ours: ours.parse().unwrap() };
        assert_eq!(user_in(sockets, ends("127.0.0.1:50000", "127.0.0.1:40000")), Some(1001));
        assert_eq!(user_in(sockets, ends("127.0.0.1:50001", "127.0.0.1:40000")), None, "it is closed");
        assert_eq!(user_in(sockets, ends("127.0.0.1:50002", "127.0.0.1:40000")), Some(1002), "a socket for IPv6");
        assert_eq!(user_in(sockets, ends("127.0.0.1:50003", "127.0.0.1:40000")), None);
        assert!(!may_be_ours(None) && !may_be_ours(Some(geteuid().as_raw() + 1)));
        assert_eq!(as_listed("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }

    #[test]
    fn a_connection_of_ours_is_ours_until_it_is_closed() {
        for (address, by) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::ffff:127.0.0.1")] {
            let [address, by] = [address, by].map(|ip| ip.parse::<IpAddr>().unwrap());
            let Ok(listener) = TcpListener::bind((address, 0)) else { continue };
            let client = TcpStream::connect((by, listener.local_addr().unwrap().port())).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            let ends = Ends { peer, ours: stream.local_addr().unwrap() };
            assert_eq!(user(ends), Some(geteuid().as_raw()), "{by}");
            assert!(may_be_ours(user(ends)), "{by}");
            drop(client);
            // A process that another test is just starting has it too, for a moment.
            let deadline = Instant::now() + Duration::from_secs(20);
            while user(ends).is_some() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert_eq!(user(ends), None, "{by}");
        }
    }
}
