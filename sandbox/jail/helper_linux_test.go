package jail

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAHelperIsDeniedTheMachine starts a program as a server of tools and reads what the
// kernel says of it, and what it gets for a call on the list.
func TestAHelperIsDeniedTheMachine(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	var out strings.Builder
	done := make(chan error)
	go OnThread(func() {
		cmd := exec.Command(sh, "-c", "cat /proc/self/status; swapoff /nothing-is-here 2>&1; echo $(echo still works | cat)")
		cmd.Stdout = &out
		err := Helper{}.Start(cmd)
		if err == nil {
			_ = cmd.Wait()
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "still works"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "No such file") {
		t.Errorf("swapoff was tried:\n%s", out.String())
	}
}
