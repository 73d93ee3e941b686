package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

const (
	// maxIdentityFile bounds a file of identities; an RSA key of 16,384 bits fits.
	maxIdentityFile = 64 << 10
	maxIdentities   = 32

	// workFactor is the cost of a passphrase, as the logarithm of scrypt's N: about a
	// second and 256 MiB. A keyring that asks for more is refused, because whoever
	// can write it could otherwise keep the machine busy for as long as they like.
	workFactor = 18
)

// Identity opens keyrings. Recipient is its public half in text, which a keyring can
// be made for.
type Identity struct {
	age.Identity
	Recipient Recipient
}

// GenerateIdentity makes a hybrid identity, X25519 with ML-KEM-768, so that what is
// copied today stays closed to the quantum computers of later. text is what
// ParseIdentities reads, and secret.
func GenerateIdentity() (id Identity, text string, err error) {
	k, err := age.GenerateHybridIdentity()
	if err != nil {
		return Identity{}, "", err
	}
	return Identity{k, Recipient{text: k.Recipient().String()}}, k.String(), nil
}

// ParseIdentities reads a file of identities: lines of age (X25519 or hybrid), or one
// SSH private key (Ed25519 or RSA) without a passphrase. Errors say the place and
// never the content.
func ParseIdentities(file []byte) ([]Identity, error) {
	if len(file) > maxIdentityFile {
		return nil, fmt.Errorf("identity file: more than %d bytes", maxIdentityFile)
	}
	if bytes.HasPrefix(bytes.TrimSpace(file), []byte("-----BEGIN")) {
		id, err := parseSSH(file)
		return []Identity{id}, err
	}
	var out []Identity
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if len(out) == maxIdentities {
			return nil, fmt.Errorf("identity file: more than %d identities", maxIdentities)
		}
		if x, err := age.ParseX25519Identity(line); err == nil {
			out = append(out, Identity{x, Recipient{text: x.Recipient().String()}})
		} else if h, err := age.ParseHybridIdentity(line); err == nil {
			out = append(out, Identity{h, Recipient{text: h.Recipient().String()}})
		} else {
			return nil, fmt.Errorf("identity file: line %d is no age identity", i+1)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("identity file: it has no identity")
	}
	return out, nil
}

func parseSSH(pem []byte) (Identity, error) {
	signer, err := ssh.ParsePrivateKey(pem)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return Identity{}, errors.New("identity file: an SSH key with a passphrase cannot be used; make one without, or an age identity")
	}
	if err != nil {
		return Identity{}, errors.New("identity file: it is no SSH private key")
	}
	id, err := agessh.ParseIdentity(pem)
	if err != nil {
		return Identity{}, errors.New("identity file: want an SSH key of type ed25519 or rsa")
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return Identity{id, Recipient{text: text}}, nil
}

// Passphrase returns the identity of a passphrase. age keeps a passphrase apart from
// all other recipients.
func Passphrase(secret string) (Identity, error) {
	id, err := age.NewScryptIdentity(secret)
	if err != nil {
		return Identity{}, errors.New("the passphrase is empty")
	}
	id.SetMaxWorkFactor(workFactor)
	return Identity{id, Recipient{text: passphrase, secret: secret}}, nil
}

// passphrase stands for the text of a recipient that has none.
const passphrase = "passphrase"

// Recipient is whom a keyring is encrypted to.
type Recipient struct {
	text   string
	secret string // of a passphrase
}

// ParseRecipient reads age1…, age1pq1…, or a line of an SSH public key.
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	r := Recipient{text: text}
	if text == passphrase {
		return Recipient{}, errors.New("a passphrase comes from a file")
	}
	if strings.HasPrefix(text, "ssh-") {
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil || len(rest) > 0 {
			return Recipient{}, errors.New("recipient: it is no SSH public key")
		}
		r.text = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) // without the comment
	}
	if _, err := r.age(); err != nil {
		return Recipient{}, err
	}
	return r, nil
}

// age returns what age encrypts to.
func (r Recipient) age() (age.Recipient, error) {
	var out age.Recipient
	var err error
	switch {
	case r.text == passphrase:
		var s *age.ScryptRecipient
		if s, err = age.NewScryptRecipient(r.secret); err == nil {
			s.SetWorkFactor(workFactor)
			out = s
		}
	case strings.HasPrefix(r.text, "ssh-"):
		out, err = agessh.ParseRecipient(r.text)
	case strings.HasPrefix(r.text, "age1pq1"):
		out, err = age.ParseHybridRecipient(r.text)
	default:
		out, err = age.ParseX25519Recipient(r.text)
	}
	if err != nil {
		return nil, errors.New("recipient: want age1…, age1pq1… or an SSH public key of type ed25519 or rsa")
	}
	return out, nil
}

// Public is the recipient without what is secret of it.
func (r Recipient) Public() Recipient { return Recipient{text: r.text} }

// String is the recipient in text; it is public.
func (r Recipient) String() string { return r.text }

// Kind names the kind: hybrid, x25519, ssh or passphrase.
func (r Recipient) Kind() string {
	switch {
	case r.text == passphrase:
		return passphrase
	case strings.HasPrefix(r.text, "ssh-"):
		return "ssh"
	case strings.HasPrefix(r.text, "age1pq1"):
		return "hybrid"
	}
	return "x25519"
}

// Format keeps a passphrase out of whatever prints a recipient, under any verb.
func (r Recipient) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.text) }
