package cli

import (
	"strings"
	"testing"
)

func TestNetstackFlag(t *testing.T) {
	s := newSite(t, nil)
	out, _, exit := s.run("__complete", "agent", "--netstack", "")
	if exit != exitOK || !strings.HasPrefix(out, "enclave\nstock\n") {
		t.Errorf("--netstack completes to %q", out)
	}
	_, errs, exit := s.run("agent", "--netstack", "kernel")
	if exit != exitUsage || !strings.Contains(errs, `--netstack "kernel": want enclave or stock`) {
		t.Errorf("a stack that is none: exit %d, %q", exit, errs)
	}
}
