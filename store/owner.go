package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckOwner refuses a state directory, or a file in it, of a user that is neither this
// process's nor root: mode 0700 keeps everybody out but its owner, who would have what a
// root that was pointed there keeps in it. It is for what runs on a state; root may look
// after one of a service (docs/decisions/0219-a-state-belongs-to-who-runs-it.md). A
// directory that is not there yet is nobody's.
func CheckOwner(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	me := whoami()
	if owner, ok := ownerOf(info); ok && !me.trusts(owner) {
		return foreign(dir, owner, me)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil // who may not list it says so when it opens something
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if owner, ok := ownerOf(info); ok && !me.trusts(owner) {
			return foreign(filepath.Join(dir, f.Name()), owner, me)
		}
	}
	return nil
}

func foreign(path string, owner uint32, me runner) error {
	return fmt.Errorf("%w: %s is of %s, and this runs as %s", ErrNotOurs, path, userName(owner), userName(me.uid))
}

// runner is as whom this process runs.
type runner struct {
	uid    uint32
	sudoer int64  // who called sudo to be root; -1: nobody
	hidden uint32 // what users look like that a user namespace does not map; 0: none does
}

// trusts reports whether what belongs to a user may be used. Under sudo that is also who
// called it: the state is theirs. A user that the namespace does not map may be root; what
// is theirs with mode 0700 can be entered by nobody in the namespace but themselves.
func (r runner) trusts(owner uint32) bool {
	return owner == r.uid || owner == 0 || r.uid == 0 && int64(owner) == r.sudoer || r.hidden != 0 && owner == r.hidden
}
