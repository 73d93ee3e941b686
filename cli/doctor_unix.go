//go:build unix

package cli

import "golang.org/x/sys/unix"

// privateModes: files here say who may read them.
const privateModes = true

// freeBytes is the room that is left for this user.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
