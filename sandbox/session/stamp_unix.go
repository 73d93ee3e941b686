//go:build unix

package session

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// noWait opens a pipe without waiting for who writes into it.
const noWait = unix.O_NONBLOCK

// stamp tells a file from what it was. On most file systems nobody but the kernel sets when an
// inode changed last: by it, who puts the old time of the content back is noticed as well. FAT
// and file systems in user space may say what they like, which readAnyway bounds.
type stamp struct {
	dev, ino uint64
	size     int64
	changed  unix.Timespec
}

// stampOf returns the stamp of an open file; zero, which is no file's, if a change that
// comes at once might not be seen by it.
func stampOf(f *os.File, now time.Time) stamp {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || now.Sub(time.Unix(st.Ctim.Unix())) < settled {
		return stamp{}
	}
	return stamp{uint64(st.Dev), uint64(st.Ino), st.Size, st.Ctim}
}
