package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"
)

// Terminal is a program on a terminal.
type Terminal struct {
	Cmd    *exec.Cmd
	w, h   int
	master *os.File
	slave  *os.File // kept open, so that its modes can be read after the program's end
	before unix.Termios
	vt     vt10x.Terminal

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed when something was drawn
	exited  chan struct{} // closed when the program has ended
	err     error         // of its end
	asked   int           // questions to the terminal
	missed  error         // what WaitFor waited for in vain
}

// Start runs cmd on a terminal of w by h cells.
func Start(cmd *exec.Cmd, w, h int) (*Terminal, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	t := &Terminal{Cmd: cmd, w: w, h: h, master: master, slave: slave, changed: make(chan struct{}), exited: make(chan struct{})}
	t.vt = vt10x.New(vt10x.WithSize(w, h), vt10x.WithWriter(io.Discard))
	err = pty.Setsize(master, &pty.Winsize{Cols: uint16(w), Rows: uint16(h)})
	if err == nil {
		t.before, err = t.modes()
	}
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, master.Close(), slave.Close())
	}
	go t.read()
	go func() {
		err := cmd.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.err = err
		close(t.exited)
	}()
	return t, nil
}

// read gives the emulator what the program writes.
func (t *Terminal) read() {
	buf := make([]byte, 32<<10)
	for kept := 0; ; {
		n, err := t.master.Read(buf[kept:])
		if err != nil {
			return
		}
		all := buf[:kept+n]
		whole := all[:len(all)-halfRune(all)]
		t.answer(whole)
		t.mu.Lock()
		_, _ = t.vt.Write(whole)
		kept = copy(buf, all[len(whole):])
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
	}
}

// halfRune counts the bytes at the end of b that begin a character and do not end it.
func halfRune(b []byte) int {
	for i := 1; i <= min(len(b), utf8.UTFMax-1); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return i
		}
	}
	return 0
}

// answer replies to what programs ask of terminals, as any would: where the cursor is and
// which colours there are.
func (t *Terminal) answer(b []byte) {
	for ask, reply := range map[string]string{"\x1b[6n": "\x1b[1;1R", "\x1b]11;?": "\x1b]11;rgb:0000/0000/0000\x1b\\", "\x1b]10;?": "\x1b]10;rgb:ffff/ffff/ffff\x1b\\"} {
		if strings.Contains(string(b), ask) {
			t.mu.Lock()
			t.asked++
			t.mu.Unlock()
			_, _ = t.master.WriteString(reply)
		}
	}
}

// Asked counts the questions that the program asked the terminal.
func (t *Terminal) Asked() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked
}

// Close ends the program, if it runs, and the terminal.
func (t *Terminal) Close() error {
	_ = t.Cmd.Process.Kill()
	<-t.exited
	return errors.Join(t.master.Close(), t.slave.Close())
}

// names of keys, as tapes write them too.
var named = map[string]string{"enter": "\r", "esc": "\x1b", "tab": "\t", "space": " ", "backspace": "\x7f",
	"up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F", "shift+tab": "\x1b[Z"}

// Press sends keys by their names: letters, enter, esc, ctrl+n.
func (t *Terminal) Press(keys ...string) error {
	for _, k := range keys {
		raw, ok := named[k]
		letter, ctrl := strings.CutPrefix(k, "ctrl+")
		switch {
		case ok:
		case ctrl && len(letter) == 1:
			raw = string(letter[0] & 0x1f)
		case len([]rune(k)) == 1:
			raw = k
		default:
			return fmt.Errorf("no key is called %q", k)
		}
		if _, err := t.master.WriteString(raw); err != nil {
			return err
		}
	}
	return nil
}

// Type sends text.
func (t *Terminal) Type(text string) error {
	_, err := t.master.WriteString(text)
	return err
}

// Text is what stands on the screen, a line each row, without trailing blanks.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text()
}

func (t *Terminal) text() string {
	var b strings.Builder
	for y := range t.h {
		var line strings.Builder
		for x := range t.w {
			r := t.vt.Cell(x, y).Char
			if r == 0 {
				r = ' '
			}
			line.WriteRune(r)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// still is how long nothing is drawn between two frames: a frame may come in several reads.
const still = 100 * time.Millisecond

// Settle waits until a frame is whole, as far as can be told: nothing came for a moment.
func (t *Terminal) Settle(within time.Duration) {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(still):
			return
		case <-late.C:
			return
		}
	}
}

// ErrEnded is returned by WaitFor when the program has ended first.
var ErrEnded = errors.New("the program has ended")

// WaitFor waits until the screen matches. Once it has waited in vain it waits no more, and
// says the same: what comes after rests on it.
func (t *Terminal) WaitFor(pattern string, within time.Duration) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for exited := t.exited; ; {
		t.mu.Lock()
		text, changed, missed := t.text(), t.changed, t.missed
		t.mu.Unlock()
		if missed != nil {
			return missed
		}
		if re.MatchString(text) {
			return nil
		}
		select {
		case <-changed:
		case <-exited: // what it wrote last may still be on its way
			exited = nil
			late.Reset(min(within, 2*time.Second))
		case <-late.C:
			if exited == nil {
				return fmt.Errorf("no %q: %w: %v; the screen:\n%s", pattern, ErrEnded, t.err, t.Text())
			}
			err := fmt.Errorf("no %q within %s; the screen:\n%s", pattern, within, t.Text())
			t.mu.Lock()
			t.missed = err
			t.mu.Unlock()
			return err
		}
	}
}

// Wait returns what the program ended with.
func (t *Terminal) Wait(within time.Duration) error {
	select {
	case <-t.exited:
		return t.err
	case <-time.After(within):
		return fmt.Errorf("it runs on after %s; the screen:\n%s", within, t.Text())
	}
}

func (t *Terminal) modes() (unix.Termios, error) {
	m, err := unix.IoctlGetTermios(int(t.slave.Fd()), unix.TCGETS)
	if err != nil {
		return unix.Termios{}, err
	}
	return *m, nil
}

// AsFound says what of the terminal is not as it was before the program: its modes (echo
// and the like), the alternate screen, the cursor, the mouse.
func (t *Terminal) AsFound() error {
	var errs []error
	now, err := t.modes()
	if err != nil {
		return err
	}
	if now != t.before {
		errs = append(errs, fmt.Errorf("its modes were %+v, are %+v", t.before, now))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vt.Mode()&vt10x.ModeAltScreen != 0 {
		errs = append(errs, errors.New("the alternate screen is on"))
	}
	if !t.vt.CursorVisible() {
		errs = append(errs, errors.New("the cursor is hidden"))
	}
	if t.vt.Mode()&vt10x.ModeMouseMask != 0 {
		errs = append(errs, errors.New("the mouse is reported"))
	}
	return errors.Join(errs...)
}

// LeftAsFound waits until AsFound has nothing to say: what a program wrote last may still
// be on its way to the emulator when it has ended.
func (t *Terminal) LeftAsFound(within time.Duration) error {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		err := t.AsFound()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("%w; the screen:\n%s", err, t.Text())
		}
	}
}

// InUse reports whether the program has the terminal: alternate screen, no echo.
func (t *Terminal) InUse() bool {
	now, err := t.modes()
	t.mu.Lock()
	defer t.mu.Unlock()
	return err == nil && now.Lflag&unix.ECHO == 0 && t.vt.Mode()&vt10x.ModeAltScreen != 0
}
