package session

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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

// TestATokenFileIsReadWhenItChanged, and not each second: not even where who changed it put
// the time of its content back and left its length.
func TestATokenFileIsReadWhenItChanged(t *testing.T) {
	g := gateOf(t, aliceToken+" alice\n", nil)
	w := watched{judged: g.cfg.Tokens.sum, last: g.cfg.Tokens.sum}
	now := time.Now()
	if g.look(t.Context(), &w, now, false); w.seen != (stamp{}) {
		t.Error("the stamp of a file that has just changed is believed")
	}
	g.look(t.Context(), &w, now.Add(time.Hour), false)
	if _, _, err := readAgain(g.file, now.Add(time.Hour), w.seen); err != errSame {
		t.Fatalf("a file that did not change is read again: %v", err)
	}
	if g.look(t.Context(), &w, now.Add(time.Hour), false); w.seen == (stamp{}) {
		t.Error("after a look that read nothing the next reads")
	}
	info, err := os.Stat(g.file)
	if err != nil {
		t.Fatal(err)
	}
	g.write(bobToken + " alice\n")
	if err := os.Chtimes(g.file, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	g.look(t.Context(), &w, now.Add(time.Hour), false)
	g.look(t.Context(), &w, now.Add(time.Hour), false)
	if a, b := g.status(aliceToken, "/tools"), g.status(bobToken, "/tools"); a != 401 || b != 200 {
		t.Errorf("it says another token: the old one %d, the new one %d", a, b)
	}
}

// TestATokenFileIsReadEvenWhenItSeemsTheSame: on some file systems a change may leave no trace
// but the content.
func TestATokenFileIsReadEvenWhenItSeemsTheSame(t *testing.T) {
	g := gateOf(t, aliceToken+" alice\n", nil)
	w := watched{judged: g.cfg.Tokens.sum, last: g.cfg.Tokens.sum}
	now := time.Now().Add(time.Hour)
	g.look(t.Context(), &w, now, false)
	g.write(bobToken + " alice\n")
	f, _, err := OpenRegular(g.file)
	if err != nil {
		t.Fatal(err)
	}
	w.seen = stampOf(f, now)
	f.Close()
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{readAnyway - 1, 200}, {readAnyway, 401}} {
		g.look(t.Context(), &w, now.Add(c.after), false)
		g.look(t.Context(), &w, now.Add(c.after), false)
		if got := g.status(aliceToken, "/tools"); got != c.want {
			t.Errorf("after %v the old token has %d, want %d", c.after, got, c.want)
		}
	}
}
