package session

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"time"

	"enclave/wire"
	"enclave/wire/envelope"
)

// handshake is a session that was greeted and not begun.
type handshake struct {
	by     *bearer
	sealer *envelope.Sealer
	opener *envelope.Opener
	until  time.Time
}

const (
	handshakeLife  = 30 * time.Second
	maxHandshakes  = 1000
	maxTenantHands = 100 // of one tenant: nobody greets for so long that others cannot
)

// handshake opens a sealed session: its keys are agreed before anything is said.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, by *bearer) error {
	if s.cfg.Identity == nil {
		return &refusal{http.StatusNotFound, "ENCRYPTION_DISABLED", "this server has no identity to seal sessions with"}
	}
	var h envelope.Hello
	if err := readBody(w, r, &h); err != nil {
		return err
	}
	id := "s_" + newUUID()
	welcome, sealer, opener, err := envelope.Accept(&h, id, s.cfg.Identity)
	if err != nil {
		return bad("%v", err)
	}
	now := time.Now()
	s.forget(now)
	s.mu.Lock()
	own := 0
	for _, other := range s.hands {
		if other.by.who.Tenant == by.who.Tenant {
			own++
		}
	}
	full := len(s.hands) >= maxHandshakes || own >= maxTenantHands
	if !full {
		s.hands[id] = &handshake{by, sealer, opener, now.Add(handshakeLife)}
	}
	s.mu.Unlock()
	if full {
		return errBusy
	}
	return answer(w, http.StatusOK, welcome)
}

// unseal opens the first message of a sealed session. A handshake serves once.
func (s *Server) unseal(by *bearer, req *SealedRequest) (c Create, sealer *envelope.Sealer, err error) {
	s.mu.Lock()
	h := s.hands[req.Session]
	if h != nil && h.by.who == by.who {
		delete(s.hands, req.Session)
	}
	s.mu.Unlock()
	if h == nil || h.by.who != by.who || time.Now().After(h.until) {
		return c, nil, &refusal{http.StatusForbidden, "ENCRYPTION_FAILED", "there is no handshake for this session, or no more"}
	}
	text, err := h.opener.Open(req.Box, req.Seq, TypeSealed)
	if err != nil {
		return c, nil, &refusal{http.StatusForbidden, "ENCRYPTION_FAILED", "the sealed request does not open"}
	}
	if err := wire.Unmarshal(text, &c); err != nil {
		return c, nil, bad("%v", err)
	}
	if c.Sealed != nil {
		return c, nil, bad("sealed: within a sealed request")
	}
	return c, h.sealer, nil
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
