package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"enclave/agent"
	"enclave/wire/api"
	"enclave/wire/names"
)

// networksText says what an agent carries for others, and which networks it reaches
// through whom.
func networksText(w io.Writer, s api.AgentStatus) {
	if g := s.Gateway; g != nil {
		routes := make([]string, len(g.Routes))
		for i, r := range g.Routes {
			routes[i] = r.String()
		}
		fmt.Fprintf(w, "gateway for %s: flows now: %d TCP, %d UDP; ever: %d; %d refused, %d not answered\n",
			first(strings.Join(routes, ", "), "nothing"), g.TCP, g.UDP, g.Opened, g.Refused, g.Failed)
	}
	said := map[string]bool{}
	for _, p := range s.Peers {
		for _, g := range p.Grants {
			subnets := slices.Clone(g.Names) // in whose stead some of the subnets stand
			for _, p := range g.Subnets {
				if !names.StandIns().Contains(p.Addr()) {
					subnets = append(subnets, p.String())
				}
			}
			line := fmt.Sprintf("network %s through %s\n", shorten(subnets), clean(p.Name))
			if g.From == s.Self.ID && len(subnets) > 0 && !said[line] {
				said[line] = true
				fmt.Fprint(w, line)
			}
		}
	}
}

// shorten joins a list of subnets; a default route is some thirty of them.
func shorten(subnets []string) string {
	const most = 4
	if n := len(subnets); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(subnets[:most], ", "), n-most)
	}
	return strings.Join(subnets, ", ")
}

// checkWarnings asks who runs on the state what an operator should do.
func checkWarnings(ctx context.Context, p *patient) finding {
	if _, err := os.Stat(filepath.Join(p.dir, agent.SocketName)); err == nil {
		s, err := agent.NewLocal(p.dir).Status(ctx)
		switch {
		case err != nil:
			return found(blank, "", "no agent runs here")
		case len(s.Warnings) > 0:
			return found(warn, "enclave agent status", "%s", strings.Join(s.Warnings, "; "))
		}
		return found(fine, "", "the agent that runs here has none")
	}
	if !p.running {
		return found(blank, "", "nothing runs here that could have any")
	}
	o, err := p.a.overview(ctx)
	switch {
	case err != nil:
		return found(blank, "", "the control plane was not asked: %v", err)
	case len(o.Warnings) > 0:
		return found(warn, "enclave status", "%s", strings.Join(o.Warnings, "; "))
	}
	return found(fine, "", "the control plane that runs here has none")
}
