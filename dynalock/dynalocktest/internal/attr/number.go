package attr

import (
	"cmp"
	"math/big"
	"strconv"
	"strings"
)

// Why a number is refused: the texts of the service's ValidationException.
const (
	errNotNumber = Invalid("A value provided cannot be converted into a number")
	errPrecision = Invalid("DynamoDB only supports precision up to 38 digits")
	errOverflow  = Invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
	errUnderflow = Invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
)

const (
	maxDigits    = 38
	maxMagnitude = 126  // 9.99...E+125 has its first digit below 10^126
	minMagnitude = -129 // 1E-130
)

// Number is a decimal of up to 38 significant digits: digits × 10^exp, digits without zeros at either end. Zero has no
// digits.
type Number struct {
	neg    bool
	digits string
	exp    int
}

// ParseNumber reads a decimal with an optional sign, fraction and exponent. The error is an Invalid.
func ParseNumber(text string) (Number, error) {
	rest := text
	var n Number
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		n.neg = rest[0] == '-'
		rest = rest[1:]
	}
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		exp := rest[i+1:]
		if exp == "" || len(exp) > 11 {
			return Number{}, errNotNumber
		}
		e, err := strconv.ParseInt(exp, 10, 32)
		if err != nil {
			return Number{}, errNotNumber
		}
		n.exp = int(e)
		rest = rest[:i]
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if whole == "" && fraction == "" {
		return Number{}, errNotNumber
	}
	digits := whole + fraction
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return Number{}, errNotNumber
		}
	}
	n.exp -= len(fraction)
	return n.normal(digits).check()
}

// normal takes the zeros off both ends of digits.
func (n Number) normal(digits string) Number {
	digits = strings.TrimLeft(digits, "0")
	short := strings.TrimRight(digits, "0")
	n.exp += len(digits) - len(short)
	n.digits = short
	if short == "" {
		return Number{}
	}
	return n
}

func (n Number) check() (Number, error) {
	switch {
	case n.digits == "":
		return n, nil
	case n.magnitude() > maxMagnitude:
		return Number{}, errOverflow
	case n.magnitude() < minMagnitude:
		return Number{}, errUnderflow
	case len(n.digits) > maxDigits:
		return Number{}, errPrecision
	}
	return n, nil
}

// magnitude is the power of ten just above the number.
func (n Number) magnitude() int { return len(n.digits) + n.exp }

// mustNumber reads a number that was stored in its canonical form.
func mustNumber(text string) Number {
	n, _ := ParseNumber(text)
	return n
}

// String gives the canonical form: plain digits, no exponent, no superfluous zeros.
func (n Number) String() string {
	if n.digits == "" {
		return "0"
	}
	var b strings.Builder
	if n.neg {
		b.WriteByte('-')
	}
	switch point := n.magnitude(); {
	case n.exp >= 0:
		b.WriteString(n.digits)
		b.WriteString(strings.Repeat("0", n.exp))
	case point <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", -point))
		b.WriteString(n.digits)
	default:
		b.WriteString(n.digits[:point])
		b.WriteByte('.')
		b.WriteString(n.digits[point:])
	}
	return b.String()
}

// Value makes an N.
func (n Number) Value() Value { return Value{Kind: N, Str: n.String()} }

// Compare orders by value: -1, 0 or 1.
func (n Number) Compare(m Number) int {
	if n.sign() != m.sign() {
		return cmp.Compare(n.sign(), m.sign())
	}
	// With one magnitude the digits compare as text: the shorter one is as if padded with zeros.
	return n.sign() * cmp.Or(cmp.Compare(n.magnitude(), m.magnitude()), strings.Compare(n.digits, m.digits))
}

func (n Number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.neg:
		return -1
	}
	return 1
}

// Add gives n + m. The error is an Invalid: why the sum cannot be stored.
func (n Number) Add(m Number) (Number, error) {
	exp := min(n.exp, m.exp)
	sum := n.scaled(exp)
	sum.Add(sum, m.scaled(exp))
	r := Number{neg: sum.Sign() < 0, exp: exp}
	return r.normal(sum.Abs(sum).String()).check()
}

// Sub gives n - m.
func (n Number) Sub(m Number) (Number, error) {
	m.neg = !m.neg
	return n.Add(m)
}

func (n Number) scaled(exp int) *big.Int {
	if n.digits == "" {
		return new(big.Int)
	}
	i, _ := new(big.Int).SetString(n.digits+strings.Repeat("0", n.exp-exp), 10)
	if n.neg {
		i.Neg(i)
	}
	return i
}

// size is one byte for each pair of digits, counted from the decimal point, without the pairs of zeros at either end;
// one byte for the exponent of any number but zero, and one more for a minus sign.
func (n Number) size() int {
	if n.digits == "" {
		return 1
	}
	size := floorHalf(n.magnitude()+1) - floorHalf(n.exp) + 1
	if n.neg {
		size++
	}
	return size
}

func floorHalf(i int) int { return i >> 1 }
