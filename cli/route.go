package cli

import (
	"context"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) systemRoute() *cobra.Command {
	return a.group("route", "Say which subnets a system may carry as a gateway", a.routeAdd(), a.routeRemove(), a.routeList())
}

func (a *app) routeAdd() *cobra.Command {
	var w changing
	var as string
	c := w.flags(&cobra.Command{Use: "add SYSTEM SUBNET", Short: "Let a system carry a subnet for others",
		Long: `Lets a system carry flows to a subnet behind it, for those whom a gateway policy names.
By itself it opens nothing. With --as, senders and policies know the subnet by another of the
same size, so that two networks with the same addresses can be told apart.`,
		Example: "  enclave system route add office 192.168.1.0/24 --wait\n" +
			"  enclave system route add branch 192.168.1.0/24 --as 10.1.1.0/24\n" +
			"  enclave system route add exit 0.0.0.0/0",
		Args: exactly("SYSTEM", "SUBNET"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			var bad mistakes
			var r wire.Route
			var err error
			r.Subnet, err = policy.ParseSubnet(args[1])
			bad.add("SUBNET", err)
			if as != "" {
				r.As, err = policy.ParseSubnet(as)
				bad.add("--as", err)
			}
			if len(bad) == 0 {
				bad.add("SUBNET", policy.CheckRoute(r))
			}
			if err := bad.refuse("the route"); err != nil {
				return err
			}
			return a.change(c, w, args[0]+" may carry "+r.String(), func(cl *client.Client) (api.Changed, error) {
				return cl.SetRoutes(c.Context(), args[0], []wire.Route{r}, nil)
			})
		}})
	c.Flags().StringVar(&as, "as", "", "the `SUBNET` by which senders know it")
	return c
}

func (a *app) routeRemove() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "remove SYSTEM SUBNET", Short: "Take a subnet from a gateway; flows to it are cut",
		Args: exactly("SYSTEM", "SUBNET"), ValidArgsFunction: a.completeRoutes(),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := policy.ParseSubnet(args[1]); err != nil {
				return usage("SUBNET: %v", err).hint("\"enclave system route list\" shows what gateways carry")
			}
			return a.change(c, w, args[0]+" may no longer carry "+args[1], func(cl *client.Client) (api.Changed, error) {
				return cl.SetRoutes(c.Context(), args[0], nil, []string{args[1]})
			})
		}})
}

// carried is a route with whose it is.
type carried struct {
	System wire.SystemID `json:"system"`
	Name   string        `json:"name"`
	wire.Route
}

func (a *app) routeList() *cobra.Command {
	return &cobra.Command{Use: "list [SYSTEM]", Short: "List what gateways may carry", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var systems []api.System
			if len(args) > 0 {
				s, err := cl.System(c.Context(), args[0])
				if err != nil {
					return err
				}
				systems = []api.System{s}
			} else if systems, err = cl.Systems(c.Context(), nil); err != nil {
				return err
			}
			list := []carried{}
			for _, s := range systems {
				for _, r := range s.Routes {
					list = append(list, carried{s.ID, s.Name, r})
				}
			}
			return a.print(list, func(w io.Writer) {
				rows := [][]string{{"SYSTEM", "NAME", "SUBNET", "SHOWN AS"}}
				for _, r := range list {
					rows = append(rows, []string{string(r.System), clean(r.Name), r.Subnet.String(), r.Shown().String()})
				}
				table(w, rows...)
			})
		}}
}

// completeRoutes offers a system, then what it carries.
func (a *app) completeRoutes() completion {
	return a.offer(func(ctx context.Context, cl *client.Client, args []string) (out []string) {
		if len(args) == 0 {
			return systemWords(ctx, cl)
		}
		s, err := cl.System(ctx, args[0])
		if err != nil || len(args) > 1 {
			return nil
		}
		for _, r := range s.Routes {
			out = append(out, r.Shown().String())
		}
		return out
	})
}

// gatewayRoutes reads --gateway: SYSTEM=SUBNET[,SUBNET], or SYSTEM alone for all that it
// may carry. Systems are found by name.
func gatewayRoutes(ctx context.Context, cl *client.Client, args []string) (out []wire.GatewayRoute, bad mistakes) {
	out = []wire.GatewayRoute{}
	for _, arg := range args {
		if arg == "" {
			continue
		}
		name, list, given := strings.Cut(arg, "=")
		s, err := cl.System(ctx, name)
		if bad.add("--gateway", err); err != nil {
			continue
		}
		g := wire.GatewayRoute{System: s.ID, Subnets: []string{}}
		if given {
			for text := range strings.SplitSeq(list, ",") {
				var p netip.Prefix
				p, err = policy.ParseSubnet(strings.TrimSpace(text))
				if bad.add("--gateway", err); err == nil {
					g.Subnets = append(g.Subnets, p.String())
				}
			}
		} else {
			for _, r := range s.Routes {
				g.Subnets = append(g.Subnets, r.Shown().String())
			}
			if len(s.Routes) == 0 {
				bad.add("--gateway", usage("%s may carry nothing yet: \"enclave system route add %s SUBNET\", or name subnets: %s=SUBNET", name, name, name))
			}
		}
		out = append(out, g)
	}
	return out, bad
}
