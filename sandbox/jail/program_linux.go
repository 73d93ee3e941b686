package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The file system of a nursery: the program, and a directory for its workers to be in.
const (
	programFile = "/program"
	emptyDir    = "/empty"
)

// onlyProgram leaves of the file system what those names say, read-only. If large, the
// program is a copy in large pages, where the machine has them.
func onlyProgram(large bool) error {
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer own.Close()
	tree, named := programTree(own)
	if named == nil {
		defer unix.Close(tree)
	}
	if large && largeProgram(own) == nil {
		return nil
	}
	if named != nil {
		return named
	}
	return newRoot(unix.MS_NOEXEC, "size=8k,nr_inodes=8,mode=0755", func() error {
		file, err := places()
		if err != nil {
			return err
		}
		_ = unix.Close(file)
		return unix.MoveMount(tree, "", unix.AT_FDCWD, programFile[1:], unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
}

// places makes both names in the working directory. The program's is open to be written.
func places() (file int, err error) {
	if err := unix.Mkdir(emptyDir[1:], 0o500); err != nil {
		return -1, err
	}
	return unix.Open(programFile[1:], unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o500)
}

// programTree is a read-only mount of the program's file, which is nowhere yet.
func programTree(own *os.File) (tree int, err error) {
	// The file that runs belongs to the namespace that this one was copied from. What has
	// its name here is the same, unless it was replaced: then there is none.
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return -1, err
	}
	tree, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
	var runs, has unix.Stat_t
	err = errors.Join(err, unix.Fstat(int(own.Fd()), &runs), unix.Fstat(tree, &has))
	if err == nil && (runs.Dev != has.Dev || runs.Ino != has.Ino) {
		err = errors.New("the program was replaced")
	}
	if err != nil {
		_ = unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// largePage is how much the processor can map at once, on the machines that this is for.
const largePage = 2 << 20

// largeProgram makes the program's file a copy in memory of what is mapped of it when it
// runs. Each worker maps ten pages of that where it would map thousands of small ones, in
// some 250 page faults, and give them back at its end: a fifth of all that it costs
// (decision 0205).
func largeProgram(own *os.File) error {
	if os.Getpagesize() != 4096 {
		return errors.ErrUnsupported
	}
	var head [4096]byte
	if _, err := own.ReadAt(head[:], 0); err != nil {
		return err
	}
	size, err := mapped(head[:])
	if err != nil {
		return err
	}
	full := (size + largePage - 1) / largePage * largePage
	options := fmt.Sprintf("size=%d,nr_inodes=8,mode=0755,huge=always", full+largePage)
	return newRoot(0, options, func() error {
		file, err := places()
		if err != nil {
			return err
		}
		defer unix.Close(file)
		if err := unix.Fallocate(file, 0, 0, full); err != nil { // in large pages, to the end of the last
			return err
		}
		for left := size; left > 0; {
			n, err := unix.Sendfile(file, int(own.Fd()), nil, int(min(left, 1<<30)))
			if err != nil || n == 0 {
				return errors.Join(errors.New("copy the program"), err)
			}
			left -= int64(n)
		}
		return nil
	})
}

// maxProgram bounds what is copied.
const maxProgram = 512 << 20

// mapped is where that part of a program's file ends that is mapped when it runs (ELF-64,
// little-endian; elf(5)). What comes after is for debuggers.
func mapped(head []byte) (end int64, err error) {
	const header, entry, load = 64, 56, 1
	le, bad := binary.LittleEndian, errors.New("not a program of 64 bits")
	if len(head) < header || string(head[:6]) != "\x7fELF\x02\x01" || le.Uint16(head[54:]) != entry {
		return 0, bad
	}
	at, count := le.Uint64(head[32:]), uint64(le.Uint16(head[56:]))
	if at > uint64(len(head)) || count*entry > uint64(len(head))-at {
		return 0, bad
	}
	for p := head[at:]; count > 0; count, p = count-1, p[entry:] {
		offset, size := le.Uint64(p[8:]), le.Uint64(p[32:])
		if offset > maxProgram || size > maxProgram-offset {
			return 0, bad
		}
		if le.Uint32(p) == load {
			end = max(end, int64(offset+size))
		}
	}
	if end == 0 {
		return 0, bad
	}
	return end, nil
}
