package terminal

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"enclave/e2e/freeport"
)

// demo starts `enclave demo` and waits for its tour.
func demo(t *testing.T, w, h int, args ...string) *Terminal {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the whole demo")
	}
	term := run(t, w, h, append([]string{"demo", "--seed", "11"}, args...)...)
	must(t, term.WaitFor("Tour 1/9: see the mesh", soon), term.WaitFor("laptop-dee is pending", soon))
	return term
}

// TestAPolicyIsMadeAndThePathOpens is what a person does first: approve a system, make a
// policy by keyboard, see the page come, quit.
func TestAPolicyIsMadeAndThePathOpens(t *testing.T) {
	term := demo(t, 100, 30)
	if !term.InUse() {
		t.Error("the program does not have the terminal")
	}
	must(t, term.Press("2"), term.WaitFor(`○ pending`, soon), term.Press("/"), term.Type("dee"), term.Press("enter"), term.WaitFor("search: dee", soon),
		term.Press("a"), term.WaitFor("approve laptop-dee", soon), term.Press("y"), term.WaitFor("✓ laptop-dee is in", soon))

	must(t, term.Press("ctrl+n"), term.WaitFor("such name", soon), term.Press("3"), term.WaitFor("Kubernetes for developers", soon),
		term.Press("n"), term.WaitFor("New policy", soon))
	for _, field := range []string{"Web", "developers", "pods", "tcp/80"} {
		must(t, term.Type(field), term.Press("tab"))
	}
	must(t, term.Press("enter"), term.WaitFor(`\+ laptop-ana → pod-1 tcp/80`, soon), term.Press("y"),
		term.WaitFor(`✓ GET http://pod-1.enclave/ from laptop-ana: "hello from pod-1"`, soon))

	must(t, term.Press("ctrl+t"), term.WaitFor("ctrl\\+t unfold", soon), term.Press("5"), term.WaitFor("live flows", soon))
	must(t, term.Press("q"), term.Wait(soon), term.LeftAsFound(soon))
}

func TestSignalsLeaveTheTerminalAsItWas(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			term := demo(t, 60, 16)
			must(t, term.Cmd.Process.Signal(sig))
			if err := term.Wait(soon); err != nil {
				t.Errorf("it ended with %v; the screen:\n%s", err, term.Text())
			}
			must(t, term.LeftAsFound(soon))
		})
	}
}

// TestVerbsAskTheTerminalNothing: a terminal that does not answer would hold each of them up.
func TestVerbsAskTheTerminalNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the executable")
	}
	term := run(t, 80, 24, "version")
	must(t, term.WaitFor("enclave ", soon), term.Wait(soon), term.LeftAsFound(soon))
	if n := term.Asked(); n > 0 {
		t.Errorf("it asked %d things", n)
	}
}

// TestTheServerIsLostAndFound ends the control plane under the terminal UI while a search
// is typed, and starts it again.
func TestTheServerIsLostAndFound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	at := freeport.Loopback(t).String()
	server := run(t, 100, 30, "up", "--listen", at, "--stun", "127.0.0.1:0")
	must(t, server.WaitFor("https://"+at, soon))
	state := ""
	for _, v := range server.Cmd.Env {
		if name, ok := strings.CutPrefix(v, "ENCLAVE_STATE="); ok {
			state = name
		}
	}
	ui := run(t, 80, 24, "tui", "--state", state)
	must(t, ui.WaitFor("● live", soon), ui.Press("2", "/"), ui.Type("half a na"))
	must(t, server.Cmd.Process.Signal(syscall.SIGTERM), server.Wait(soon), ui.WaitFor("✗ no answer", soon), ui.Type("me"), ui.WaitFor("search: half a name", soon))
	again := exec.Command(server.Cmd.Path, "up", "--listen", at, "--stun", "127.0.0.1:0")
	again.Env = server.Cmd.Env
	back, err := Start(again, 100, 30)
	must(t, err)
	defer back.Close()
	must(t, ui.WaitFor("(?s)search: half a name.*● live", soon), ui.Press("esc"), ui.WaitFor("0 of 0", soon), ui.Press("q"), ui.Wait(soon), ui.LeftAsFound(soon))
}
