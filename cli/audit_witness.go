package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/wire"
)

func (a *app) auditWitness() *cobra.Command {
	var out, refused string
	var accept bool
	c := &cobra.Command{Use: "witness", Short: "Show what the agent here remembers of the audit trail",
		Long: `Every agent remembers the newest checkpoint of the audit trail and believes a newer one
only with a proof that it continues the one it has. Give what it remembers to
"enclave audit verify --checkpoint FILE": it finds a trail that was rolled back or forked,
also by whoever holds its key.

--accept makes the agent believe the next checkpoint whatever it is: for after a backup
was restored with --accept-rollback.`,
		Example: "  enclave audit witness --state laptop-agent --out laptop.checkpoint",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.stateDir()
			if err != nil {
				return err
			}
			l := agent.NewLocal(dir)
			s, err := l.Status(c.Context())
			if err != nil {
				return err
			}
			w := s.Witness
			if w == nil {
				return &failure{exit: exitTryAgain, Code: "no_checkpoint", Message: "the agent remembers no checkpoint yet"}
			}
			if refused != "" {
				if w.Refused == "" {
					return &failure{exit: exitNotFound, Code: "not_refused", Message: "the agent has refused no checkpoint"}
				}
				if err := writeNew(refused, []byte(w.Refused)); err != nil {
					return err
				}
			}
			if out != "" {
				if err := writeNew(out, []byte(w.Checkpoint)); err != nil {
					return err
				}
			}
			if accept {
				if err := l.ForgetWitness(c.Context()); err != nil {
					return err
				}
			}
			return a.print(w, func(o io.Writer) {
				fmt.Fprintf(o, "%s at %s\nkey %s\n%s", wire.Count(w.Size, "record"), w.At.UTC().Format(time.RFC3339), w.Key, w.Checkpoint)
				if w.Alarm != "" {
					fmt.Fprintf(o, "\nREFUSED at %s: %s\n%s", when(w.RefusedAt), clean(w.Alarm), w.Refused)
				}
				if accept {
					fmt.Fprintln(o, "\nforgotten: the next checkpoint is believed")
				}
			})
		}}
	outFlag(c, &out, "write the checkpoint to `FILE`, which must not exist")
	c.Flags().StringVar(&refused, "refused", "", "write the checkpoint that was refused to `FILE`, which must not exist")
	c.Flags().BoolVar(&accept, "accept", false, "forget what is remembered, and believe the next checkpoint")
	return c
}
