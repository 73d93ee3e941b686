//go:build unix

package store

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

func ownerOf(info os.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}

func whoami() runner {
	r := runner{uid: uint32(os.Geteuid()), sudoer: -1}
	if n, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil {
		r.sudoer = int64(n)
	}
	// Linux alone has these; where they are not, every user shows as who it is.
	if ids, err := os.ReadFile("/proc/self/uid_map"); err == nil && !mapsAll(string(ids)) {
		r.hidden = 65534
		if text, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil {
				r.hidden = uint32(n)
			}
		}
	}
	return r
}

// mapsAll reports whether a uid_map is that of the first namespace: all users, as they are
// (user_namespaces(7)).
func mapsAll(ids string) bool {
	f := strings.Fields(ids)
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

// userName names a user for people.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("%.40q (uid %s)", u.Username, id)
	}
	return "uid " + id
}
