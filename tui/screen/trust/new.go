package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/screen"
	"enclave/tui/screen/listing"
	"enclave/wire"
	"enclave/wire/api"
)

// newForm asks for a requirement. Its kind and authority cannot change later, so one that
// exists is not replaced from here.
func newForm(c screen.Client, rows []api.Requirement) *listing.Form {
	return listing.NewForm("New trust requirement", func(v []string) tea.Cmd {
		r := wire.Requirement{ID: v[0], Kind: wire.UserAuthentication, Authority: v[2], Description: v[6]}
		if v[1] == "address" {
			r.Kind = wire.PublicIP
		}
		r.Claims, _ = claims(v[3]) // Check has read them
		for _, word := range strings.Fields(v[4]) {
			text, blocked := strings.CutPrefix(word, "!")
			r.Ranges = append(r.Ranges, wire.RangeCondition{Range: text, Blocked: blocked})
		}
		for _, word := range strings.Fields(v[5]) {
			text, blocked := strings.CutPrefix(word, "!")
			r.Countries = append(r.Countries, wire.CountryCondition{Country: text, Blocked: blocked})
		}
		return screen.Ask(screen.Propose{Title: "make the requirement " + r.ID, Done: "made " + r.ID, Then: done{},
			Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.AddRequirement(ctx, dry, r) }}})
	}, listing.Field{Name: "name", Example: "mfa, office", Check: func(text string) error {
		switch {
		case text == "":
			return errors.New("a requirement needs a name")
		case slices.ContainsFunc(rows, func(r api.Requirement) bool { return r.ID == text }):
			return fmt.Errorf("there is a requirement %s already; \"enclave trust set\" replaces it", text)
		}
		return nil
	}},
		listing.Field{Name: "kind", Example: "sign-in, address", Check: func(text string) error {
			if text == "" {
				return errors.New("want sign-in or address")
			}
			return listing.OneOf("sign-in", "address")(text)
		}},
		listing.Field{Name: "authority", Example: "sign-in: local, or the issuer's URL"},
		listing.Field{Name: "claims", Example: "sign-in: amr=mfa groups=dev", Check: func(text string) error {
			_, err := claims(text)
			return err
		}},
		listing.Field{Name: "ranges", Example: "address: 192.0.2.0/24 !192.0.2.9"},
		listing.Field{Name: "countries", Example: "address: DE !XX"},
		listing.Field{Name: "notes", Example: "what it is for"},
	)
}

// claims reads NAME=VALUE with spaces between.
func claims(text string) (out []wire.ClaimCondition, err error) {
	for _, word := range strings.Fields(text) {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%.40q: want CLAIM=VALUE", word)
		}
		out = append(out, wire.ClaimCondition{Claim: name, Value: value})
	}
	return out, nil
}
