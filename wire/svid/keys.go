package svid

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// ErrKeyStatement is returned when a WireGuard or disco key is not vouched for by
// the identity it is presented with.
var ErrKeyStatement = errors.New("keys are not signed by the identity key")

// SignKeys makes the key statement of a system: identity vouches for wg and disco.
func SignKeys(identity ed25519.PrivateKey, wg wire.WireGuardKey, disco wire.DiscoKey) wire.Keys {
	id := wire.IdentityKey(identity.Public().(ed25519.PublicKey))
	return wire.Keys{
		Identity: id, WireGuard: wg, Disco: disco,
		Signature: ed25519.Sign(identity, wire.KeyStatement(id, wg, disco)),
	}
}

// CheckKeys verifies a key statement. Zero keys are refused: WireGuard treats the
// zero key as no peer, and a zero disco key would be everybody's.
func CheckKeys(k *wire.Keys) error {
	if k.WireGuard.IsZero() || k.Disco.IsZero() || k.Identity.IsZero() {
		return fmt.Errorf("%w: a key is missing", ErrKeyStatement)
	}
	return CheckSignature(k)
}

// CheckSignature verifies a key statement whose other keys may be zero: a relay's,
// which has none.
func CheckSignature(k *wire.Keys) error {
	if !ed25519.Verify(k.Identity[:], wire.KeyStatement(k.Identity, k.WireGuard, k.Disco), k.Signature) {
		return ErrKeyStatement
	}
	return nil
}

// VerifyPeer checks everything a map says about who a peer is: its SVID, that the
// SVID names this very peer, and that its identity key signed its other keys. An
// agent calls it before it configures the peer, so that a control plane which
// hands out foreign keys under a system's name is found out.
func VerifyPeer(p *wire.Peer, roots *x509.CertPool, org wire.OrgID, now time.Time) (wire.IdentityKey, error) {
	id, leaf, err := Verify(p.SVID, roots, org, now)
	if err != nil {
		return wire.IdentityKey{}, fmt.Errorf("peer %s: %w", p.ID, err)
	}
	if id.SystemID() != p.ID {
		return wire.IdentityKey{}, fmt.Errorf("peer %s: %w: %s", p.ID, ErrWrongPeer, id)
	}
	key, err := IdentityKey(leaf)
	if err != nil {
		return wire.IdentityKey{}, fmt.Errorf("peer %s: %w", p.ID, err)
	}
	k := wire.Keys{Identity: key, WireGuard: p.WireGuard, Disco: p.Disco, Signature: p.KeySignature}
	if err := CheckKeys(&k); err != nil {
		return wire.IdentityKey{}, fmt.Errorf("peer %s: %w", p.ID, err)
	}
	return key, nil
}
