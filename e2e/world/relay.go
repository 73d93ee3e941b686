package world

import (
	"context"
	"fmt"
	"net/netip"

	"enclave/agent"
	"enclave/cli/node"
	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/api"
)

// Relay is a relay on its host, with two addresses and two ports of STUN on each.
type Relay struct {
	Name string
	Host *natlab.Host

	world   *World
	key     string
	state   agent.MemoryKeeper
	process *Process
}

// AddRelay enrols a relay and starts it; over is its link to the internet.
func (w *World) AddRelay(ctx context.Context, name string, over natlab.HostOption) (*Relay, error) {
	key, err := w.API.CreateKey(ctx, api.KeyCreate{Name: name, Kind: "relay"})
	if err != nil {
		return nil, fmt.Errorf("relay key: %w", err)
	}
	r := &Relay{Name: name, Host: w.Lab.Host(name, w.Lab.Internet(), natlab.Addresses(2), over), world: w, key: key.Secret}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.relays = append(w.relays, r)
	w.mu.Unlock()
	return r, nil
}

// Start runs the relay from its kept state.
func (r *Relay) Start(ctx context.Context) error {
	w := r.world
	l, err := r.Host.ListenTCP(relayPort)
	if err != nil {
		return err
	}
	cfg := node.RelayConfig{
		Control: controlURL, Fingerprint: w.First.Fingerprint, Key: func() (string, error) { return r.key, nil },
		Name: r.Name, Keeper: &r.state, Dial: r.Host.DialContext, Listener: l,
		Logger: w.cfg.Logger.With("host", r.Name),
	}
	cfg.Info.Addr = fmt.Sprintf("%s.lab:%d", r.Name, relayPort)
	for _, addr := range r.Host.Addrs() { // two addresses, two ports: mapping behaviour shows
		for _, port := range []uint16{3478, 3479} {
			pc, err := r.Host.ListenUDPAddrPort(netip.AddrPortFrom(addr, port))
			if err != nil {
				return err
			}
			cfg.STUN = append(cfg.STUN, pc)
			cfg.Info.STUN = append(cfg.Info.STUN, netip.AddrPortFrom(addr, port).String())
		}
	}
	r.process = start(context.WithoutCancel(ctx), func(ctx context.Context) error { return node.RunRelay(ctx, cfg) })
	return nil
}

// Stop ends the relay as SIGTERM would: its clients move first.
func (r *Relay) Stop() error { return r.process.Stop() }

// ID is the name by which agents know it; empty until it has enrolled.
func (r *Relay) ID(ctx context.Context) (wire.RelayID, error) {
	list, err := r.world.API.Relays(ctx)
	for _, one := range list {
		if one.Addr == fmt.Sprintf("%s.lab:%d", r.Name, relayPort) {
			return one.ID, err
		}
	}
	return "", err
}
