package audit

import (
	"context"
	"fmt"
	"sync/atomic"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// verification is one reading of the whole trail. done and total are written by the
// command that reads and drawn at each tick; everything else belongs to Update.
type verification struct {
	done, total atomic.Int64
	cancel      context.CancelFunc
	result      *screen.Verified
	err         error
}

var (
	verify = keys.New("verify the whole trail", "V")
	stop   = keys.New("stop, or back", "esc")
)

type verified struct {
	of     *verification
	result screen.Verified
	err    error
}

func (m *Model) verify(s *screen.State) tea.Cmd {
	ctx, cancel := context.WithCancel(context.Background())
	v := &verification{cancel: cancel}
	m.verifying = v
	return func() tea.Msg {
		defer cancel()
		r, err := s.Client.VerifyAudit(ctx, func(done, total int64) {
			v.done.Store(done)
			v.total.Store(total)
		})
		return verified{v, r, err}
	}
}

func (v *verification) told(r verified) {
	v.err = r.err
	if r.err == nil {
		v.result = &r.result
	}
}

func (v *verification) view(s *screen.State, w int) []string {
	t := s.Theme
	lines := []string{t.Paint(theme.Title, "Verify the audit trail"), ""}
	add := func(name, value string) {
		for i, part := range theme.Wrap(theme.Clean(value), w-14) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, "  "+t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
		}
	}
	switch {
	case v.err != nil:
		return append(lines, t.Paint(theme.Bad, "✗ "+theme.Clean(v.err.Error())), "nothing is proven; V tries again")
	case v.result == nil:
		done, total := v.done.Load(), v.total.Load()
		line := fmt.Sprintf("  reading record %d", done)
		if total > 0 {
			line = "  " + bar(done, total, min(40, w-24)) + fmt.Sprintf(" %d of %d", done, total)
		}
		return append(lines, line, "", t.Paint(theme.Dim, "  the export is itself recorded; esc stops it"))
	}
	r := v.result
	if r.Wrong != "" {
		lines = append(lines, t.Paint(theme.Bad, "✗ the trail is not what was signed"), "")
		add("wrong", r.Wrong)
		add("proven", fmt.Sprintf("all up to record %d is as it was signed", r.Proven))
	} else {
		lines = append(lines, t.Paint(theme.Good, fmt.Sprintf("● records %d to %d are as they were signed", r.First, r.Last)), "")
	}
	add("log", r.Origin)
	add("root", r.Root)
	add("key", r.Key)
	if r.Sealed > 0 {
		add("erased", wire.Count(r.Sealed, "detail")+", whose hashes stay")
	}
	if r.Since > 0 {
		add("continues", "the trail that this program saw before, of "+wire.Count(r.Since, "record"))
	} else {
		add("beware", "the key is what this server told. Who has it from elsewhere proves more: \"enclave audit verify --key-file\"")
	}
	return lines
}

// bar draws how far something is.
func bar(done, total int64, w int) string {
	full := int(done * int64(w) / max(total, 1))
	out := ""
	for i := range w {
		if i < full {
			out += "█"
		} else {
			out += "░"
		}
	}
	return out
}
