package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enclave/store"
)

// Kept is a backup that lies in a directory of them.
type Kept struct {
	File string
	Made time.Time
	Kind string // who made it: "a schedule", "an upgrade" or "hand"
}

// LastBackup is the newest backup in dir, whoever made it; zero for none. What is in one
// is not looked at: that takes the keys. The name of a schedule's says when it was made;
// of another, the file's own time does.
func LastBackup(dir string) (last Kept, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	for _, f := range list {
		if !f.Type().IsRegular() || !strings.HasSuffix(f.Name(), ".backup") {
			continue
		}
		k := Kept{File: filepath.Join(dir, f.Name()), Kind: "hand"}
		if upgrade, _ := filepath.Match(store.UpgradeBackups, f.Name()); upgrade {
			k.Kind = "an upgrade"
		}
		if at, bad := time.Parse(backupName, f.Name()); bad == nil {
			k.Kind, k.Made = "a schedule", at
		} else if info, bad := f.Info(); bad == nil {
			k.Made = info.ModTime().UTC().Truncate(time.Second)
		}
		if k.Made.After(last.Made) {
			last = k
		}
	}
	return last, err
}
