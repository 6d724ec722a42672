//! Which user a connection comes from, where the system says so.

use std::net::{IpAddr, SocketAddr};

/// The two ends of a connection within this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) ours: SocketAddr,
}

/// Returns the user whose program is at the other end; `None` where that is not known, as on systems that do not tell it.
pub(super) fn user(ends: Ends) -> Option<u32> {
    let file = if ends.peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    user_in(&std::fs::read_to_string(file).ok()?, ends)
}

/// Finds the peer's socket in Linux's list, see proc_pid_net(5).
fn user_in(sockets: &str, Ends { peer, ours }: Ends) -> Option<u32> {
    let (local, remote) = (as_listed(peer), as_listed(ours));
    sockets.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_it = words.next()? == local && words.next()? == remote;
        // After state, queues, timer and retransmissions.
        if is_it { words.nth(4)?.parse().ok() } else { None }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    #[cfg(target_endian = "little")]
    fn the_other_end_is_found_by_both_addresses() {
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                       0: 0100007F:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n   \
                       1: 0100007F:C350 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0\n   \
                       2: 0100007F:9C40 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0\n";
        let ends = |peer: &str, ours: &str| Ends { peer: peer.parse().unwrap(), ours: ours.parse().unwrap() };
        assert_eq!(user_in(sockets, ends("127.0.0.1:50000", "127.0.0.1:40000")), Some(1001));
        assert_eq!(user_in(sockets, ends("127.0.0.1:50001", "127.0.0.1:40000")), None);
        assert_eq!(as_listed("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_of_ours_is_ours() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ends = Ends { peer: client.local_addr().unwrap(), ours: client.peer_addr().unwrap() };
            assert_eq!(user(ends), Some(rustix::process::geteuid().as_raw()), "{address}");
        }
    }
}
