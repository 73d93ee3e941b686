package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"enclave/wire"
	"enclave/wire/api"
)

// revisionArg reads the number of a revision.
func revisionArg(s string) (wire.Revision, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 {
		return 0, usage("revision %.20q: want a number from \"enclave policy history\"", s)
	}
	return wire.Revision(n), nil
}

func (a *app) policyCompare() *cobra.Command {
	return &cobra.Command{Use: "compare REVISION [REVISION]", Short: "Show what differs between two revisions, or one and now",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return exactly("REVISION", "[REVISION]")(c, nil)
			}
			return nil
		}, ValidArgsFunction: a.completeRevisions(2),
		RunE: func(c *cobra.Command, args []string) error {
			var revs [2]wire.Revision
			for i, s := range args {
				var err error
				if revs[i], err = revisionArg(s); err != nil {
					return err
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			d, err := cl.Compare(c.Context(), revs[0], revs[1])
			if err != nil {
				return err
			}
			return a.print(d, func(w io.Writer) { compareText(w, &d) })
		}}
}

func compareText(w io.Writer, d *api.SetDiff) {
	if len(d.Changes) == 0 {
		fmt.Fprintf(w, "the policy set of revision %d is that of revision %d\n", d.From, d.To)
		return
	}
	sign := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, c := range d.Changes {
		name := ""
		if c.Name != "" {
			name = " " + strconv.Quote(c.Name)
		}
		fmt.Fprintf(w, "%s %s%s %s\n", sign[c.Change], c.Part, clean(name), clean(c.ID))
		for _, line := range fieldChanges(c.Before, c.After) {
			fmt.Fprintf(w, "    %s\n", clean(line))
		}
	}
	fmt.Fprintf(w, "%d changes from revision %d to %d\n", len(d.Changes), d.From, d.To)
}

// fieldChanges tells documents apart by their fields; what is no object is told whole.
func fieldChanges(before, after json.RawMessage) (out []string) {
	old, next := fields(before), fields(after)
	names := slices.Sorted(maps.Keys(old))
	for name := range maps.Keys(next) {
		if _, also := old[name]; !also {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		switch was, is := old[name], next[name]; {
		case name == "id" || name == "name" && len(before)*len(after) == 0 || bytes.Equal(was, is):
		case was == nil:
			out = append(out, name+": "+string(is))
		case is == nil:
			out = append(out, name+": "+string(was)+" is gone")
		default:
			out = append(out, name+": "+string(was)+" → "+string(is))
		}
	}
	return out
}

func fields(doc json.RawMessage) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	if len(doc) > 0 && json.Unmarshal(doc, &out) != nil {
		out = map[string]json.RawMessage{"is": doc}
	}
	return out
}
