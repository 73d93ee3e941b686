package session

import (
	"slices"

	"enclave/sandbox/tools"
)

// catalogue is a set of tools and the runs that use it. It is closed when it was
// replaced and the last of them has ended.
type catalogue struct {
	reg     *tools.Registry
	runs    int
	retired bool
}

// take returns the tools of a run that begins now; the caller calls release once.
func (h *Host) take() *catalogue {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		h.now = &catalogue{reg: h.Tools}
	}
	h.now.runs++
	return h.now
}

func (h *Host) release(c *catalogue) error {
	h.mu.Lock()
	c.runs--
	last := c.retired && c.runs == 0
	h.mu.Unlock()
	if last {
		return c.reg.Close()
	}
	return nil
}

// Current is what a run that began now could call.
func (h *Host) Current() *tools.Registry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		return h.Tools
	}
	return h.now.reg
}

// Replace gives runs that begin from now on other tools. Those that run keep theirs
// until they end; rates go on.
func (h *Host) Replace(reg *tools.Registry) error {
	old := h.take()
	reg.Inherit(old.reg)
	h.mu.Lock()
	h.now = &catalogue{reg: reg}
	old.retired = true
	h.mu.Unlock()
	return h.release(old)
}

// Close closes the tools. All runs have ended.
func (h *Host) Close() error { return h.Current().Close() }

// Replace replaces the tools of the host and tells the sessions that live, each by what
// its own caller may call: their runs keep what they have.
func (s *Server) Replace(reg *tools.Registry) error {
	before := s.cfg.Host.Current()
	if err := s.cfg.Host.Replace(reg); err != nil {
		return err
	}
	s.mu.Lock()
	all := make([]*live, 0, len(s.sessions))
	for _, l := range s.sessions {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		p := CatalogPayload{Version: reg.Version(), Added: missing(reg.List(l.who), before.List(l.who)), Removed: missing(before.List(l.who), reg.List(l.who))}
		if reg.Version() != before.Version() {
			l.log.Append(TypeCatalog, p) // nothing follows an end: an ended log takes none
		}
	}
	return nil
}

// missing are the names that one list has and the other has not.
func missing(have, other []tools.Info) []string {
	out := []string{}
	for _, t := range have {
		if !slices.ContainsFunc(other, func(o tools.Info) bool { return o.Name == t.Name }) {
			out = append(out, t.Name)
		}
	}
	return out
}
