package cli

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire/api"
)

// approvals are what --approve takes.
var approvals = []string{"manual", "automatic"}

func (a *app) key() *cobra.Command {
	verb := func(verb, short, past string) *cobra.Command {
		var w changing
		return trying(&cobra.Command{Use: verb + " KEY", Short: short, Args: exactly("KEY"), ValidArgsFunction: a.completeKeys(), RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, past+" "+args[0], func(cl *client.Client) (api.Changed, error) {
				if verb == "delete" {
					return cl.DeleteKey(c.Context(), args[0])
				}
				return cl.KeyDo(c.Context(), args[0], verb)
			})
		}}, &w.wish)
	}
	return a.group("key", "Manage enrolment keys", a.keyCreate(), a.keyList(),
		verb("enable", "Let an enrolment key be used again", "enabled"),
		verb("disable", "Stop an enrolment key; systems it enrolled stay", "disabled"),
		verb("delete", "Remove an enrolment key; systems it enrolled stay", "removed"),
	)
}

func (a *app) keyCreate() *cobra.Command {
	var (
		k                  api.KeyCreate
		tags               []string
		uses               int
		ephemeral, isRelay bool
		retention          time.Duration
		end                expiring
		secret             secretFile
		wish               client.Wish
	)
	c := &cobra.Command{Use: "create NAME", Short: "Create an enrolment key; its secret is shown this once",
		Example: "  enclave key create laptops --tag developers --uses 10 --expires 24h --out laptops.key\n" +
			"  enclave key create ci --ephemeral --retention 5m --json\n" +
			"  enclave key create guests --from-ip 192.0.2.0/24 --expires \"2026-12-24 18:00 Europe/Berlin\" --expiry-action delete",
		Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			var err error
			switch {
			case len(args) > 1:
				return usage("%s takes one NAME", c.CommandPath()).hint("put quotes around one of several words")
			case len(args) == 1 && k.Name != "":
				return usage("two names: %.60q and --name %.60q", args[0], k.Name).hint("choose one")
			case len(args) == 1:
				k.Name = args[0]
			}
			if k.Name == "" {
				return usage("a key needs a name that says what it is for").hint("run \"enclave key create NAME\"")
			}
			if k.Tags, err = tagArgs(tags); err != nil {
				return err
			}
			if k.Approval != "" && !slices.Contains(approvals, k.Approval) {
				return usage("--approve %.40q: want %s", k.Approval, strings.Join(approvals, " or "))
			}
			if retention != 0 && (!ephemeral || retention < time.Second) {
				return usage("--retention %s: want a second or more, with --ephemeral", retention)
			}
			switch {
			case ephemeral && isRelay:
				return usage("a key is for ephemeral systems or for relays, not both")
			case ephemeral:
				k.Kind = "ephemeral"
			case isRelay:
				k.Kind = "relay"
			}
			if c.Flags().Changed("uses") {
				if uses < 1 {
					return usage("--uses %d: want 1 or more; leave it out for unlimited", uses)
				}
				k.Uses = &uses
			}
			if k.ExpiresAt, k.ExpiresLocal, k.ExpiryAction, err = end.read(time.Now()); err != nil {
				return err
			}
			for _, s := range k.Sources {
				if err := policy.CheckRange(s); err != nil {
					return usage("--from-ip %.60q: %v", s, err)
				}
			}
			k.Retention = int(retention.Seconds())
			if err := secret.open(); err != nil {
				return err
			}
			defer secret.Close()
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(wish).CreateKey(c.Context(), k)
			if err != nil {
				return a.trial(err)
			}
			if err := secret.keep(&out.Secret, "key "+string(out.ID)); err != nil {
				return err
			}
			return a.print(out, func(io.Writer) {
				a.printSecret(&secret, out.Secret, out.Name, string(out.ID), "Put it in a file and pass that with: enclave agent --key-file FILE")
			})
		}}
	f := c.Flags()
	f.StringVar(&k.Name, "name", "", "what the key is for, `NAME`, as a flag")
	f.StringArrayVar(&tags, "tag", nil, "`TAG` that its systems get; may be given several times")
	f.IntVar(&uses, "uses", 0, "how many systems it enrols, `N` (default unlimited)")
	f.BoolVar(&ephemeral, "ephemeral", false, "its systems are removed some time after they disconnect")
	f.BoolVar(&isRelay, "relay", false, "it enrols relays instead of systems")
	f.DurationVar(&retention, "retention", 0, "`TIME` for which an ephemeral system stays after it disconnects (default 30m)")
	f.StringVar(&k.Approval, "approve", "", "manual or automatic: `HOW` its systems get in (default manual, automatic for ephemeral)")
	f.StringArrayVar(&k.Sources, "from-ip", nil, "it enrols from this `ADDRESS`, prefix or range only; may be given several times")
	secret.flags(c)
	end.flags(c)
	return completing(trying(c, &wish), map[string]completion{"approve": words(approvals...), "tag": a.completeTags()})
}

func (a *app) keyList() *cobra.Command {
	return listing(a, "List enrolment keys", (*client.Client).Keys, []string{"ID", "NAME", "KIND", "APPROVAL", "USED", "LEFT", "TAGS", "ENABLED", "FROM", "EXPIRES"}, func(k api.Key) []string {
		left := "unlimited"
		if k.Uses != nil {
			left = num(*k.Uses)
		}
		return []string{string(k.ID), clean(k.Name), k.Kind, k.Approval, num(k.Used), left, join(k.Tags), strconv.FormatBool(k.Enabled), join(k.Sources), ends(k.ExpiresAt, k.ExpiresLocal, k.ExpiryAction)}
	})
}

func num(n int) string { return strconv.Itoa(n) }
