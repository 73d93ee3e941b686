package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"enclave/sandbox/tools"
	"enclave/store/audit"
	"enclave/wire"
)

// runsMagic is how a file of "sandbox … --audit" begins.
const runsMagic = `{"at":`

// ofRuns reports whether a file is one of a sandbox's records, as one without any also may
// be. It looks into no pipe: what was read of it would be gone.
func ofRuns(name string, without bool) (bool, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b, err := bufio.NewReader(f).Peek(len(runsMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return len(b) == 0 && without || string(b) == runsMagic, nil
}

// verifyRuns verifies the file that a sandbox keeps beside or without a control plane.
func (a *app) verifyRuns(name, head string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := tools.VerifyAudit(f, head)
	found := func(kind string, from, until int, hint string) error {
		why := fmt.Sprintf("%s: %v", name, err)
		return &failure{exit: exitDamaged, Code: "audit_" + kind, Message: why, Hint: hint, Finding: &audit.Finding{Kind: kind, Seq: int64(from), Until: int64(until), Why: why}}
	}
	switch {
	case errors.Is(err, tools.ErrAuditTorn):
		return found(audit.Truncated, r.Records+1, 0, "a crash leaves that, or a sandbox that writes just now; the next one that opens the file moves the rest of the line to "+name+".torn")
	case errors.Is(err, tools.ErrAuditHead):
		return found(audit.Truncated, r.Records+1, 0, fmt.Sprintf("what it has (%s) fits together, but records at its end were cut off or changed, or it was made anew", wire.Count(r.Records, "record")))
	case errors.Is(err, tools.ErrAuditChain):
		return found(audit.Changed, max(r.Records, 1), r.Records+1, "")
	case err != nil:
		return err
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "verified: %s of a sandbox's file; the chain is whole\n", wire.Count(r.Records, "record"))
		if r.Records > 0 {
			fmt.Fprintf(w, "  from %s to %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
		}
		if head != "" {
			fmt.Fprintf(w, "  the record that was remembered is still there\n")
		}
		fmt.Fprintf(w, "  head %s\n  nobody has signed it: remember the head elsewhere, and ask for it later with --head\n", r.Head)
	})
}
