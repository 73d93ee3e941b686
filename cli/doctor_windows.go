package cli

import "golang.org/x/sys/windows"

// privateModes: access is by list here, which package store checks.
const privateModes = false

// freeBytes is the room that is left for this user.
func freeBytes(dir string) (free uint64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	return free, windows.GetDiskFreeSpaceEx(name, &free, nil, nil)
}
