package session

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestATokenFileThatBecomesAPipe: nobody writes into it, and nothing waits for them.
func TestATokenFileThatBecomesAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, aliceToken+" alice\n", nil)
		os.Remove(g.file)
		if err := syscall.Mkfifo(g.file, 0o600); err != nil {
			t.Skip(err)
		}
		g.looks(3)
		if g.status(aliceToken, "/tools") != 200 || !strings.Contains(g.log.String(), "no regular file") {
			t.Errorf("%s", g.log)
		}
		os.Remove(g.file)
		g.write("")
		g.looks(2)
		if g.status(aliceToken, "/tools") != 401 {
			t.Error("the file is not looked at any more")
		}
	})
}
