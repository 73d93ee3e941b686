package tools

// silence tells of which schemas of a document it is sure that they call nothing secret: what
// is too large to be followed for each value can still be searched once for the words.
type silence struct {
	doc   map[string]any
	parts map[string]*spoken // by the steps to each
	left  int                // steps that it may still take, for all schemas together
}

// spoken is what stands in a schema, without what it refers to.
type spoken struct {
	speaks bool     // or cannot all be followed
	refs   []string // that it follows
}

// maxSearched bounds the steps for a document: four for each byte that it may have.
const maxSearched = 4 * MaxDocument

func newSilence(doc map[string]any) *silence {
	return &silence{doc: doc, parts: make(map[string]*spoken), left: maxSearched}
}

// of reports whether nothing that v reaches says a word of secrets. What leads out of the
// document or nowhere, and what is not searched any more, may say anything.
func (s *silence) of(v any) bool {
	first := new(spoken)
	s.read(v, first)
	todo, seen := []*spoken{first}, make(map[string]bool)
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at.speaks {
			return false
		}
		for _, ref := range at.refs {
			if s.left--; s.left < 0 {
				return false
			}
			if !seen[ref] {
				seen[ref] = true
				todo = append(todo, s.at(ref))
			}
		}
	}
	return true
}

// at is what stands where a reference leads.
func (s *silence) at(ref string) *spoken {
	if known := s.parts[ref]; known != nil {
		return known
	}
	found := new(spoken)
	if target, ok := lookup(s.doc, ref); ok {
		s.read(target, found)
	} else {
		found.speaks = true
	}
	s.parts[ref] = found
	return found
}

func (s *silence) read(v any, found *spoken) {
	if s.left--; s.left < 0 {
		found.speaks = true
	}
	if found.speaks {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, word := range inMarks {
			if mark := v[word]; mark != nil && mark != false {
				found.speaks = true
				return
			}
		}
		for _, word := range append([]string{"$id"}, inRefs...) {
			ref, ok := v[word].(string)
			if ok && word != "$ref" {
				found.speaks = true // it leads elsewhere than the pruner goes
				return
			}
			if ok {
				found.refs = append(found.refs, ref)
			}
		}
		for _, one := range v {
			s.read(one, found)
		}
	case []any:
		for _, one := range v {
			s.read(one, found)
		}
	}
}
