package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"enclave/store"
)

// clockBelieved is what `clock believe` prints.
type clockBelieved struct {
	Seen    time.Time `json:"seen"` // the later time that the state had seen
	Now     time.Time `json:"now"`  // of this machine's clock
	Behind  float64   `json:"behind_seconds"`
	Changed bool      `json:"changed"`
}

func (a *app) clock() *cobra.Command {
	c := a.group("clock", "Say which clock of a control plane was wrong", a.clockBelieve())
	c.Long = `The time of a control plane does not go back: when this machine's clock is set back, what had
ended stays ended, and time goes on from what it was. "enclave status" and "enclave doctor"
say so. Where the clock is wrong now, set it. Where it is right and had been ahead before,
"enclave clock believe" says so.`
	return c
}

func (a *app) clockBelieve() *cobra.Command {
	var f unsealFlags
	var dry bool
	c := f.flags(&cobra.Command{Use: "believe", Short: "Take this machine's clock as right after it was ahead",
		Long: `Makes what this machine's clock shows the time of the state: for after it was wrongly ahead.
Tokens, keys and grants whose end is yet to come count again. What was carried out
meanwhile, such as a key that was disabled at its expiry, stays as it is. The audit trail has
both times. The control plane must be stopped.`,
		Example: "  enclave clock believe --state lab --dry-run\n  enclave clock believe --state lab",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.sealer(&f)
			if err != nil {
				return err
			}
			if noDatabase(s.Dir) {
				return &failure{exit: exitNotFound, Code: "not_found", Message: "there is no state of a control plane in " + s.Dir, Hint: "pass its directory with --state"}
			}
			now := time.Now().UTC()
			seen, err := store.BelieveClock(c.Context(), s.Dir, store.Change{By: "operator", At: now}, dry, store.WithIdentities(s.Identities...))
			right := errors.Is(err, store.ErrClockRight)
			if err != nil && !right {
				return err
			}
			seen = seen.UTC()
			out := clockBelieved{Seen: seen, Now: now, Behind: max(seen.Sub(now), 0).Seconds(), Changed: !right && !dry}
			return a.print(out, func(w io.Writer) {
				switch behind := seen.Sub(now).Round(time.Second); {
				case right:
					fmt.Fprintf(w, "%v; nothing is changed\n", err)
				case dry:
					fmt.Fprintf(w, "it is %s, %s behind the %s that the state has seen; this would make it the time again\n", when(&now), behind, when(&seen))
				default:
					fmt.Fprintf(w, "it is %s again; the state had seen %s, %s later\n", when(&now), when(&seen), behind)
				}
			})
		}})
	c.Flags().BoolVar(&dry, "dry-run", false, "show what it would do and change nothing")
	return c
}
