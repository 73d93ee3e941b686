package terminal

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"enclave/tui"
	"enclave/tui/screen"
	"enclave/wire/api"
)

// childVariable has this test binary be the program on the terminal.
const childVariable = "ENCLAVE_TERMINAL_CHILD"

func TestMain(m *testing.M) {
	if how := os.Getenv(childVariable); how != "" {
		err := tui.Run(context.Background(), &broken{how: how}, tui.Options{In: os.Stdin, Out: os.Stdout})
		fmt.Printf("it ended: %v\n", err)
		return
	}
	code := m.Run()
	removeBinary()
	os.Exit(code)
}

// broken is a server whose client panics somewhere.
type broken struct {
	screen.Client // nil: what is not here panics too
	how           string
}

func (b *broken) Revision(context.Context) (api.RevisionStatus, error) {
	if b.how == "command" {
		panic("broken in a command")
	}
	return api.RevisionStatus{Revision: 1}, context.DeadlineExceeded
}

func (b *broken) Audit(ctx context.Context, _ url.Values, _ int) ([]api.AuditRecord, error) {
	if b.how == "stream" {
		panic("broken in the stream")
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAPanicLeavesTheTerminalAsItWas(t *testing.T) {
	for _, how := range []string{"command", "stream"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+how, "TERM=xterm-256color")
		term, err := Start(cmd, 80, 24)
		if err != nil {
			t.Fatal(err)
		}
		if err := term.Wait(soon); err != nil {
			t.Error(err)
		}
		if err := term.WaitFor("it ended: the terminal UI broke", soon); err != nil {
			t.Error(err)
		}
		if err := term.LeftAsFound(soon); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		term.Close()
	}
}
