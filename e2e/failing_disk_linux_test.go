package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// failingDisk mounts a file system whose disk takes no more writes after fail: its blocks
// are a file with holes on a small disk that fail fills. Writing goes well, because the
// system keeps it in memory; the sync is what fails, as on a disk that dies.
func failingDisk(t *testing.T, at string) (fail, mend func()) {
	t.Helper()
	under := t.TempDir()
	if err := unix.Mount("tmpfs", under, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Skipf("no disk of our own without root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(under, unix.MNT_DETACH) })
	image, filler := filepath.Join(under, "image"), filepath.Join(under, "filler")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-b", "4096", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,errors=continue", image, at).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	if err := errors.Join(os.Chmod(at, 0o700), os.RemoveAll(filepath.Join(at, "lost+found"))); err != nil {
		t.Fatal(err)
	}
	fail = func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); err == nil {
			t.Fatal("it is not full")
		}
	}
	mend = func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	return fail, mend
}

// TestFailingDisk lets syncs of the state's disk fail under a running control plane. It
// stops with exit code 7 and says why; what it acknowledged is there once the disk works.
func TestFailingDisk(t *testing.T) {
	l := emptyLab(t)
	if err := os.Mkdir(l.path("up"), 0o700); err != nil {
		t.Fatal(err)
	}
	fail, mend := failingDisk(t, l.path("up"))
	l.startUp(freePort(t))
	u, err := url.Parse(l.up.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := l.admin()
	var acknowledged []string
	change := func(n int) error {
		name := fmt.Sprintf("t%d", n)
		_, err := c.SetTag(t.Context(), name, nil, strings.Repeat("n", 500))
		if err == nil {
			acknowledged = append(acknowledged, name)
		}
		return err
	}
	for n := range 20 {
		if err := change(n); err != nil {
			t.Fatal(err)
		}
	}
	fail()
	n := 20
	for ; n < 3000; n++ { // until the log needs room that was never written
		if err = change(n); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("every change was acknowledged on a disk that takes nothing")
	}
	exit := l.upProcess.exits(20 * time.Second)
	says := l.upProcess.stderr()
	if exit != 7 || !strings.Contains(says, `"code":"disk_failed"`) || !strings.Contains(says, "did not keep what was written") || !strings.Contains(says, `"hint":"look at the disk`) {
		t.Errorf("exit %d:\n%s", exit, tail(says, 800))
	}
	mend()
	l.startUp(u.Host)
	list, err := l.admin().Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, tag := range list {
		there[string(tag.Name)] = true
	}
	lost := 0
	for _, name := range acknowledged {
		if !there[name] {
			lost++
		}
	}
	if lost > 0 || len(there) > len(acknowledged)+1 {
		t.Errorf("%d of %d acknowledged changes are lost, %d are there", lost, len(acknowledged), len(there))
	}
	if h, err := l.admin().Health(t.Context(), true); err != nil || h.PagesErr+h.IntegrErr+h.ChainErr != "" {
		t.Errorf("%+v, %v", h, err)
	}
	t.Logf("the sync after %d changes failed: stopped with exit code %d, %d acknowledged, %d lost", n-20, exit, len(acknowledged), lost)
}
