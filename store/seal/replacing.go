package seal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"enclave/store/lockfile"
)

// replacing is the file whose lock is held while documents of a directory are replaced. It
// is empty, and stays: one that is removed while another process waits for it locks nothing.
const replacing = "documents.lock"

// Replacing runs f while nobody else, in whatever process, replaces documents of dir. A
// control plane seals again what an agent in the same directory saves; without turns, the
// agent's document of a moment ago could come back over a newer one, or one be left under a
// root that was dropped. f must not call Save or ResealFiles, which take their turn here.
// Its error is that of ctx when the turn does not come before that ends.
func Replacing(ctx context.Context, dir string, f func() error) error {
	lock, err := os.OpenFile(filepath.Join(dir, replacing), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // lets it go
	if err := lockfile.WaitFor(ctx, lock); err != nil {
		return fmt.Errorf("%s: %w", lock.Name(), err)
	}
	return f()
}
