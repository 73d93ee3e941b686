package tools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"enclave/sandbox/jail"
)

// errNoVisit is returned for a server on the overlay where nothing joins.
var errNoVisit = errors.New("it is on the overlay, so that only a run that joins can reach it: add --join")

// mcpRemote is a server on the overlay. Every run has a connection of its own, through
// its own system: policy decides, and flows carry the run's ID.
type mcpRemote struct {
	url     string
	headers map[string]string // with secrets
}

func (m *mcpRemote) via(d Dialer, run string) *mcpServer {
	headers := maps.Clone(m.headers)
	headers["Enclave-Run"] = run
	return &mcpServer{dial: func(context.Context) (transport, error) {
		return &mcpHTTP{url: m.url, headers: headers, client: httpClient(d.DialContext, 1)}, nil
	}}
}

// servers returns the run's connection to a server on the overlay.
func (s *Session) servers(m *mcpRemote) *mcpServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv := s.remote[m]
	if srv == nil {
		srv = m.via(s.cfg.Overlay, s.cfg.Run)
		s.remote[m] = srv
	}
	return srv
}

// leave ends the run's connections to servers on the overlay.
func (s *Session) leave() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.remote))
	clear(s.remote)
	s.mu.Unlock()
	for _, srv := range all {
		srv.Close() //nolint:errcheck // a courtesy: the system that it went through ends
	}
}

// importServers makes tools of the tools of all servers. Those on the overlay are asked
// during one visit.
func (r *Registry) importServers(ctx context.Context, all []MCPServer, s secrets, cfg Config) error {
	var visit Visit
	defer func() {
		if visit != nil {
			if err := visit.Close(); err != nil {
				r.log.Warn("leave the overlay after asking for tools", "error", err)
			}
		}
	}()
	for i := range all {
		m := &all[i]
		if m.Overlay && visit == nil {
			if cfg.Visit == nil {
				return fmt.Errorf("mcp %s: %w", m.Name, errNoVisit)
			}
			under, cancel := context.WithTimeout(ctx, mcpStart)
			var err error
			visit, err = cfg.Visit(under)
			cancel()
			if err != nil {
				visit = nil
				return fmt.Errorf("mcp %s: ask for its tools: %w", m.Name, err)
			}
		}
		if err := r.importMCP(ctx, m, visit, s, cfg); err != nil {
			return fmt.Errorf("mcp %s: %w", m.Name, err)
		}
	}
	return nil
}

// helper is a declaration in the jail's words.
func (w *Walls) helper(dir string) (h jail.Helper) {
	if w == nil {
		return h
	}
	abs := func(list []string) (out []string) {
		for _, path := range list {
			path = under(dir, path)
			if at, err := filepath.Abs(path); err == nil {
				path = at
			}
			out = append(out, path)
		}
		return out
	}
	if f := w.Files; f != nil {
		h.Files, h.Read, h.Write = true, abs(f.Read), abs(f.Write)
	}
	h.NoNetwork = w.Network != nil && !*w.Network
	h.Memory = w.MemoryMB << 20
	return h
}

// importMCP connects to a server and makes tools of its tools.
func (r *Registry) importMCP(ctx context.Context, m *MCPServer, visit Visit, s secrets, cfg Config) error {
	var remote *mcpRemote
	srv := &mcpServer{name: m.Name}
	switch headers := s.injectAll(m.Headers); {
	case m.Overlay:
		remote = &mcpRemote{m.URL, headers}
		srv = remote.via(visit, "")
		defer srv.Close()
	case m.URL != "":
		allow, err := prefixes(m.Allow)
		if err != nil {
			return err
		}
		srv.dial = func(context.Context) (transport, error) {
			return &mcpHTTP{url: m.URL, headers: headers, client: httpClient(guarded(allow), keptConns)}, nil
		}
	default:
		env := s.injectAll(m.Env)
		srv.dial = func(context.Context) (transport, error) {
			return startMCP(m.Command, env, under(cfg.Dir, m.Dir), cfg.Getenv("PATH"), m.Walls.helper(cfg.Dir), r.log.With("mcp", m.Name))
		}
	}
	if remote == nil {
		r.closers = append(r.closers, srv)
	}
	all, err := srv.list(ctx)
	if err != nil {
		return errors.New(r.redact.text(err.Error()))
	}
	if remote != nil {
		srv = nil
	}
	im := importer{registry: r, rules: &m.Import, prefix: m.Prefix, seen: make(map[string]bool)}
	for _, t := range all {
		if !im.wanted(t.Name) {
			continue
		}
		kind := []Attribute{Reads, Writes, Sends}
		if err := im.add(t.Name, t.Description, t.InputSchema, t.OutputSchema, kind, &imported{srv, remote, t.Name}, remote != nil); err != nil {
			return err
		}
	}
	return im.missing()
}
