//! The programs' maps: filling those that hold the scope, and taking those that are read.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};

use super::why::LoadError;
use crate::trace::settings::Scope;

/// `enum scope_bits` in `ebpf/state.h`.
pub(super) fn scope_bits(scope: &Scope) -> u32 {
    let bit = |is_empty: bool, bit: u32| if is_empty { 0 } else { bit };
    bit(scope.pids.is_empty(), 1)
        | bit(scope.comms.is_empty(), 2)
        | bit(scope.ports.is_empty(), 4)
        | bit(scope.cgroups.is_empty(), 8)
        | bit(scope.excluded.is_empty(), 16)
        | bit(scope.containers.is_empty(), 32)
}

/// Entries of the map of foreign groups: as it is defined if containers are looked at, else next to none.
pub(super) fn foreign_groups(scope: &Scope) -> u32 {
    if scope.containers.is_empty() { 64 } else { 16_384 }
}

/// Whether processes are in more hierarchies of cgroups than the unified one; to be safe, if that cannot be read.
pub(super) fn cgroups_v1() -> bool {
    let text = std::fs::read_to_string("/proc/self/cgroup");
    text.map_or(true, |text| text.lines().any(|line| !line.starts_with("0::")))
}

/// This process's pid namespace and its number in there.
pub(super) fn own_identity() -> Result<(u32, u32), LoadError> {
    let link = std::fs::read_link("/proc/self/ns/pid");
    let namespace =
        link.ok().and_then(|link| link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    let namespace = namespace
        .ok_or_else(|| LoadError::other("/proc/self/ns/pid: it cannot be read; is /proc mounted?"))?;
    Ok((namespace, std::process::id()))
}

/// Writes the scope into its maps.
pub(super) fn fill(ebpf: &mut Ebpf, scope: &Scope) -> Result<(), LoadError> {
    let failed = |what: &str, e: &MapError| LoadError::other(format!("the scope's {what}: {e}"));
    let mut pids = hash::<u32>(ebpf, "scope_pids")?;
    scope.pids.iter().try_for_each(|pid| pids.insert(pid, 1, 0)).map_err(|e| failed("pid", &e))?;
    let mut comms = hash::<[u8; 16]>(ebpf, "scope_comms")?;
    let key = |comm: &String| {
        let mut key = [0; 16];
        // The kernel keeps 15 bytes and a zero.
        key.iter_mut().zip(comm.bytes().take(15)).for_each(|(to, from)| *to = from);
        key
    };
    scope.comms.iter().try_for_each(|comm| comms.insert(key(comm), 1, 0)).map_err(|e| failed("comm", &e))?;
    let mut ports = hash::<u16>(ebpf, "scope_ports")?;
    scope.ports.iter().try_for_each(|port| ports.insert(port, 1, 0)).map_err(|e| failed("port", &e))?;
    let mut cgroups = hash::<u64>(ebpf, "scope_cgroups")?;
    for path in &scope.cgroups {
        let meta = std::fs::metadata(path)
            .map_err(|e| LoadError::other(format!("the scope's cgroup {}: {e}", path.display())))?;
        cgroups.insert(meta.ino(), 1, 0).map_err(|e| failed("cgroup", &e))?;
    }
    let mut peers = hash::<[u8; 20]>(ebpf, "excluded_peers")?;
    for peer in &scope.excluded {
        let mut key = [0; 20];
        match peer.address {
            Some(IpAddr::V4(address)) => key[..4].copy_from_slice(&address.octets()),
            Some(IpAddr::V6(address)) => key[..16].copy_from_slice(&address.octets()),
            None => {}
        }
        key[16..18].copy_from_slice(&peer.port.unwrap_or(0).to_ne_bytes());
        peers.insert(key, 1, 0).map_err(|e| failed("excluded peers", &e))?;
    }
    Ok(())
}

/// The maps that are used while the programs run.
pub(super) struct Maps {
    pub ring: RingBuf<MapData>,
    pub counters: PerCpuArray<MapData, u64>,
    pub foreign_groups: HashMap<MapData, u64, u8>,
}

/// Takes these maps; the programs keep theirs.
pub(super) fn take(ebpf: &mut Ebpf) -> Result<Maps, LoadError> {
    let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| missing(name));
    let (ring, counters, foreign) = (map("ring")?, map("counters")?, map("foreign_groups")?);
    let of = |e: MapError| LoadError::other(format!("the maps: {e}"));
    Ok(Maps {
        ring: RingBuf::try_from(ring).map_err(of)?,
        counters: PerCpuArray::try_from(counters).map_err(of)?,
        foreign_groups: HashMap::try_from(foreign).map_err(of)?,
    })
}

fn hash<'a, K: aya::Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<HashMap<&'a mut MapData, K, u8>, LoadError> {
    let map: &mut Map = ebpf.map_mut(name).ok_or_else(|| missing(name))?;
    HashMap::try_from(map).map_err(|e| LoadError::other(format!("the map {name}: {e}")))
}

fn missing(name: &str) -> LoadError {
    LoadError::other(format!("the map {name} is not in the object"))
}
