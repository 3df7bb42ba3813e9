# A machine of its own with systemd as its first process. Run by tests/support/machine.rs, in namespaces of its own for
# mounts and processes: `sh -c SCRIPT machine DIR CGROUP WEIR FILES`, DIR an empty directory, WEIR the binary, FILES the root
# whose files it has, read only; what is written is in memory and gone with the namespace.
set -eu
dir=$1 cgroup=$2 weir=$3 files=$4
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root" "$dir/cgroup"

# A control group for all of its processes, which is the root that they see.
mount -t cgroup2 cgroup2 "$dir/cgroup"
mkdir "$dir/cgroup/$cgroup"
echo 0 > "$dir/cgroup/$cgroup/cgroup.procs"
umount "$dir/cgroup"

mount -t overlay -o "lowerdir=$files,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
cd "$dir/root"
[ -x usr/lib/systemd/systemd ] || { echo "there is no systemd on the file system of $files"; exit 1; }

mount -t proc proc proc
# The kernel is the real one: nobody in here sets it up.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# Nothing of what this machine runs is started: no units of its own, no generators, no setting up.
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
mount -t tmpfs -o mode=755 tmpfs usr/lib/systemd/system-generators
for unit in usr/lib/systemd/system/sysinit.target.wants/*; do
  case ${unit##*/} in
    systemd-journald.service | systemd-journald.socket) ;;
    *) ln -s /dev/null "etc/systemd/system/${unit##*/}" ;;
  esac
done
cat > etc/systemd/system/machine.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service
After=systemd-journald.service
UNIT
touch usr/bin/weir
mount --bind "$weir" usr/bin/weir
rm -rf etc/fstab etc/machine-id etc/weir var/lib/weir var/lib/private/weir var/log/weir var/log/private/weir var/log/journal
echo 0123456789abcdef0123456789abcdef > etc/machine-id
echo machine > etc/hostname
exec unshare --cgroup --uts --ipc --net sh -euc '
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  pivot_root . mnt
  umount -l /mnt
  # As systemd does where it is not told that it is in a container.
  mount --make-rshared /
  exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio \
    /usr/lib/systemd/systemd --unit=machine.target --show-status=false --log-target=journal
'
