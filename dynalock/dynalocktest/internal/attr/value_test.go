package attr

import (
	"encoding/json"
	"strings"
	"testing"
)

func read(t *testing.T, text string) (Value, error) {
	t.Helper()
	var w Wire
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	return w.Value()
}

func TestAValueIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"S":"a \"quoted\" é\u0000"}`, `{"N":"-1.5"}`, `{"B":"AAEC"}`, `{"BOOL":false}`, `{"NULL":true}`, `{"S":""}`,
		`{"B":""}`,
		`{"SS":["b","a"]}`, `{"NS":["1","2"]}`, `{"BS":["AA=="]}`, `{"L":[]}`, `{"M":{}}`,
		`{"L":[{"S":"a"},{"M":{"x":{"N":"1"},"y":{"L":[{"NULL":true}]}}}]}`,
	} {
		v, err := read(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		again, err := read(t, string(v.AppendJSON(nil)))
		if err != nil || !again.Equal(v) {
			t.Errorf("%s is written as %s (%v)", text, v.AppendJSON(nil), err)
		}
	}
}

func TestMalformedValuesAreRefusedInTheServicesWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                        "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		`{"S":"a","N":"1"}`:         "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
		`{"N":"x"}`:                 "A value provided cannot be converted into a number",
		`{"NULL":false}`:            "One or more parameter values were invalid: Null attribute value types must have the value of true",
		`{"SS":[]}`:                 "One or more parameter values were invalid: An string set  may not be empty",
		`{"NS":[]}`:                 "One or more parameter values were invalid: An number set  may not be empty",
		`{"BS":[]}`:                 "One or more parameter values were invalid: Binary sets should not be empty",
		`{"SS":["a","a"]}`:          "One or more parameter values were invalid: Input collection [a, a] contains duplicates",
		`{"NS":["1","1.0"]}`:        "Input collection contains duplicates",
		`{"BS":["AA==","AA=="]}`:    "One or more parameter values were invalid: Input collection of type BS contains duplicates.",
		`{"L":[{"S":"a"},{}]}`:      "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		`{"M":{"a":{"N":"1e999"}}}`: "Number overflow. Attempting to store a number with magnitude larger than supported range",
	} {
		if v, err := read(t, text); err == nil || err.Error() != want {
			t.Errorf("%s gives %v, %v, want %q", text, v, err, want)
		}
	}
}

func TestSizesAreThoseThatTheServiceCharges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`{"S":"xxxxx"}`: 5, `{"S":"é"}`: 2, `{"B":"YWFh"}`: 3, `{"BOOL":true}`: 1, `{"NULL":true}`: 1, `{"L":[]}`: 3,
		`{"M":{}}`:          3,
		`{"L":[{"S":"x"}]}`: 5, `{"L":[{"S":"x"},{"S":"x"}]}`: 7, `{"M":{"k":{"S":"x"}}}`: 6,
		`{"M":{"k":{"S":"x"},"l":{"S":"x"}}}`: 9,
		`{"SS":["x","yy"]}`:                   3, `{"NS":["1","22"]}`: 4, `{"BS":["YWFh"]}`: 3,
		`{"L":[{"L":[{"S":"x"}]}]}`:         9,
		`{"M":{"k":{"M":{"j":{"N":"1"}}}}}`: 12, `{"L":[{"N":"1"},{"BOOL":true},{"NULL":true}]}`: 10,
	} {
		v, err := read(t, text)
		if err != nil || v.Size() != want {
			t.Errorf("%s takes %d bytes (%v), want %d", text, v.Size(), err, want)
		}
	}
}

func TestValuesOfTwoTypesAreNeverEqualAndHaveNoOrder(t *testing.T) {
	t.Parallel()
	var all []Value
	for _, text := range []string{
		`{"S":"1"}`, `{"N":"1"}`, `{"B":"MQ=="}`, `{"BOOL":true}`, `{"NULL":true}`, `{"SS":["1"]}`, `{"NS":["1"]}`,
		`{"BS":["MQ=="]}`,
		`{"L":[{"S":"1"}]}`, `{"M":{"1":{"S":"1"}}}`,
	} {
		v, err := read(t, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	for i, v := range all {
		for j, w := range all {
			_, ordered := v.Compare(w)
			if v.Equal(w) != (i == j) || ordered && i != j {
				t.Errorf("%s and %s: equal %t, ordered %t", v.AppendJSON(nil), w.AppendJSON(nil), v.Equal(w), ordered)
			}
		}
	}
}

func TestDepthCountsListsAndMaps(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		text := strings.Repeat(`{"L":[`, n) + `{"SS":["a"]}` + strings.Repeat(`]}`, n)
		if v, err := read(t, text); err != nil || v.Depth() != n {
			t.Errorf("%s has depth %d (%v), want %d", text, v.Depth(), err, n)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, seed := range []string{
		`{"S":"a"}`, `{"L":[{"M":{"x":{"N":"1e5"}}}]}`, `{"SS":["a","b"]}`, `{"B":"AA=="}`,
		`{"M":{"":{"NULL":true}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var w Wire
		if json.Unmarshal(text, &w) != nil {
			return
		}
		v, err := w.Value()
		if err != nil {
			return
		}
		again, err := read(t, string(v.AppendJSON(nil)))
		if err != nil || !again.Equal(v) || again.Size() != v.Size() {
			t.Fatalf("%s is written as %s (%v)", text, v.AppendJSON(nil), err)
		}
	})
}
