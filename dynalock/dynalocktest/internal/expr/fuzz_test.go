package expr

import (
	"testing"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// FuzzExpressions reads any text as each kind of expression; what is accepted is evaluated on an item, and must leave
// the item alone.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{
		"attribute_not_exists(#s) OR n = :one AND NOT (l[1] IN (:two, :s))",
		"SET n = if_not_exists(n, :one) + :two, m.y = list_append(l, :l) REMOVE l[0], s ADD ss :ss DELETE ns :ns",
		"n, m.x, l[2].x, #dot", "size(s) BETWEEN :one AND :two", "((((", "SET a = ", "#", "a[0", "n <> :s)",
		"NOT NOT NOT n = :one",
		"SET a = if_not_exi SET sts(b)", "((((a))))", "contains(l[1 , 00][5], :one)", "n BETWEEN :two AND :one",
		"SET l[9].x = :s, l = :l", "é\xff = :s",
	} {
		f.Add(seed)
	}
	it, untouched, vals := item(f, sample), item(f, sample), item(f, values)
	names := placeholders(f).Names
	f.Fuzz(func(t *testing.T, text string) {
		placeholders := func() *Placeholders { return &Placeholders{Names: names, Values: vals} }
		for _, kind := range []Kind{Condition, Filter, KeyCondition} {
			if c, err := ParseCondition(kind, text, placeholders()); err == nil {
				c.Eval(it)
				c.Eval(nil)
				_, _ = c.KeyParts()
			}
		}
		if u, err := ParseUpdate(text, placeholders()); err == nil {
			if _, err := u.Apply(it); err == nil && len(u.Paths()) == 0 {
				t.Error("an update without a path")
			}
			_, _ = u.Apply(nil)
		}
		if paths, err := ParseProjection(text, placeholders()); err == nil {
			part := Project(it, paths)
			if again := Project(part, paths[:0]); len(again) != 0 {
				t.Errorf("nothing of the item is %s", again.AppendJSON(nil))
			}
		}
		if !(attr.Value{Kind: attr.M, Map: it}).Equal(attr.Value{Kind: attr.M, Map: untouched}) {
			t.Errorf("%q changed the item", text)
		}
	})
}
