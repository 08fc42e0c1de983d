/* Growing maps as plain loops: the rounds of somcore, for screening thousands of parameter sets.
 *
 * Same rules, same order of decisions, same whole-number sums as somcore (accumulate, adapt, growth, update);
 * dense rows without weights or missing values, rounds of at most 4096 rows.
 * tests/unit/test_screening.py holds it to somcore. N samples, K slots, D features, C classes.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LARFDSSOM, SSSOM, ALTSSSOM };

typedef struct {
    int64_t variant, samples, features, classes, capacity, batch, rounds, period, per_group, mantissa, headroom, credit;
    double threshold, bmu_rate, neighbour_rate, push_rate, relevance_rate, decay, slope, floor, connection;
    double win_share;
    double max_abs;
} Settings;

typedef struct { /* a map; also several loose nodes (clones) */
    double *c, *w, *dev;
    int64_t *cls, *wins, *upd, *born;
    uint8_t *alive;
} Nodes;

typedef struct { double n, *x, *gap; } Moment; /* number, sum of x, sum of |x - c|: whole numbers */
typedef struct { double *n, *x, *gap; } Moments;
typedef struct { int64_t row, position, bmu, label; double rho; int open; } Candidate;
typedef struct { int64_t node, label, count; double *x, *gap; int conflict; } Contested;

static void *make(size_t count, size_t size) { return calloc(count ? count : 1, size); }

static Nodes make_nodes(int64_t k, int64_t d) {
    Nodes s = {make(k * d, 8), make(k * d, 8), make(k * d, 8), make(k, 8), make(k, 8), make(k, 8), make(k, 8), make(k, 1)};
    for (int64_t i = 0; i < k * d; i++) s.w[i] = 1;
    for (int64_t j = 0; j < k; j++) s.cls[j] = -1;
    return s;
}
static void free_nodes(Nodes s) {
    free(s.c); free(s.w); free(s.dev); free(s.cls); free(s.wins); free(s.upd); free(s.born); free(s.alive);
}
/* Moments and whole numbers have rows of P = D rounded up to 8: loops without remainders. */
static Moments make_moments(int64_t k, int64_t d) { return (Moments){make(k, 8), make(k * d, 8), make(k * d, 8)}; }
static void clear_moments(Moments m, int64_t k, int64_t d) {
    memset(m.n, 0, k * 8); memset(m.x, 0, k * d * 8); memset(m.gap, 0, k * d * 8);
}
static void free_moments(Moments m) { free(m.n); free(m.x); free(m.gap); }

static uint64_t mix(uint64_t counter, uint64_t key) { /* somcore.sampling._mix */
    uint64_t x = (counter ^ key) * 0xBF58476D1CE4E5B9ull;
    x ^= x >> 32;
    x *= 0x94D049BB133111EBull;
    x ^= x >> 32;
    return x & ((1ull << 62) - 1);
}

static double kept(double n, double decay) {
    return n == 1 ? decay : exp(n * (decay > 0 ? log(decay) : -INFINITY));
}
/* What a deviation is divided by to undo its start at 0; infinity (so 0) for a node never updated. */
static double start_share(const Settings *p, int64_t t) {
    if (p->variant != ALTSSSOM) return 1;
    return t > 0 ? 1 - kept((double)t, p->decay) : INFINITY;
}

static void relevances(const Settings *p, Nodes s, int64_t j, double *scratch) {
    int64_t D = p->features;
    double low = INFINITY, high = -INFINITY, mean = 0, share = start_share(p, s.upd[j]);
    for (int64_t d = 0; d < D; d++) {
        double v = s.dev[j * D + d] / share;
        scratch[d] = v; mean += v;
        if (v < low) low = v;
        if (v > high) high = v;
    }
    mean /= D;
    for (int64_t d = 0; d < D; d++) {
        double w = 1;
        if (high > low) {
            w = 1 / (1 + exp((scratch[d] - mean) / (p->slope * (high - low))));
            if (w < p->floor) w = p->floor;
        }
        s.w[j * D + d] = w;
    }
}

/* ---- adapt: one node from its sums (values of x and |x - c| are whole numbers times unit) ---- */
typedef struct { double first, second, gain; int moves; } Pull; /* the same for all features of a node */

static Pull pull_of(double r1, double n1, double r2, double n2) {
    double e1 = r1 > 0 ? n1 * -log1p(-r1) : 0, e2 = r2 > 0 ? n2 * -log1p(-r2) : 0, total = e1 + e2;
    if (!(total > 0)) return (Pull){0, 0, 0, 0};
    double count = (r1 > 0 ? n1 : 0) + (r2 > 0 ? n2 : 0), single = (r1 > 0 ? n1 * r1 : 0) + (r2 > 0 ? n2 * r2 : 0);
    return (Pull){e1 / total, e2 / total, count == 1 ? single : -expm1(-total), 1};
}
static double pulled(Pull t, double value, double mean1, double mean2) {
    return t.moves ? value + t.gain * (t.first * mean1 + t.second * mean2 - value) : value;
}
static double strength(double n, double rate) { return n == 1 ? rate : -expm1(-n * -log1p(-rate)); }

static void adapt(const Settings *p, Nodes s, int64_t j, double unit, const Moment *pull, const Moment *near,
                  const Moment *other, int64_t updates, double *scratch) {
    int64_t D = p->features;
    double *c = s.c + j * D, *dev = s.dev + j * D;
    double slow = p->bmu_rate * p->relevance_rate, slow_near = p->neighbour_rate * p->relevance_rate;
    double n1 = pull->n > 1 ? pull->n : 1, n2 = near->n > 1 ? near->n : 1;
    if (pull->n + near->n + other->n == 0) return;
    Pull move = pull_of(p->bmu_rate, pull->n, p->neighbour_rate, near->n);
    if (p->variant == ALTSSSOM) {
        double n = pull->n + near->n + other->n, k = kept(n, p->decay);
        for (int64_t d = 0; d < D; d++) {
            double q = (pull->gap[d] * unit + near->gap[d] * unit + other->gap[d] * unit) / (n > 1 ? n : 1);
            c[d] = pulled(move, c[d], pull->x[d] * unit / n1, near->x[d] * unit / n2);
            dev[d] = k * dev[d] + (1 - k) * q;
        }
        s.upd[j] += updates;
    } else {
        if (p->variant == SSSOM && p->push_rate > 0 && other->n > 0) {
            double away = strength(other->n, p->push_rate), loose = strength(other->n, p->push_rate * p->relevance_rate);
            for (int64_t d = 0; d < D; d++) {
                c[d] -= away * (other->x[d] * unit / other->n - c[d]);
                dev[d] -= loose * (other->gap[d] * unit / other->n - dev[d]);
                if (dev[d] < 0) dev[d] = 0;
            }
        }
        Pull learn = pull_of(slow, pull->n, slow_near, near->n);
        for (int64_t d = 0; d < D; d++) {
            c[d] = pulled(move, c[d], pull->x[d] * unit / n1, near->x[d] * unit / n2);
            dev[d] = pulled(learn, dev[d], pull->gap[d] * unit / n1, near->gap[d] * unit / n2);
        }
    }
    relevances(p, s, j, scratch);
}

/* ---- match ---- */
/* Alive nodes, feature-major, in blocks of LANES: arithmetic stays in registers. */
enum { LANES = 32 };
typedef struct { int64_t count, width, *slot; double *c, *w, *mass, *rho; } Front;

static Front make_front(int64_t k, int64_t d) {
    int64_t width = (k + LANES - 1) / LANES * LANES;
    return (Front){0, width, make(width, 8), make(width * d, 8), make(width * d, 8), make(width, 8), make(width, 8)};
}
static void free_front(Front f) { free(f.slot); free(f.c); free(f.w); free(f.mass); free(f.rho); }

static void face(const Settings *p, Nodes s, Front *f) {
    int64_t D = p->features, a = 0;
    for (int64_t j = 0; j < p->capacity; j++) if (s.alive[j]) f->slot[a++] = j;
    f->count = a;
    for (int64_t i = 0; i < f->width; i++) {
        double mass = i < a ? 0 : 1;
        for (int64_t d = 0; d < D; d++) {
            double w = i < a ? s.w[f->slot[i] * D + d] : 0;
            f->c[d * f->width + i] = i < a ? s.c[f->slot[i] * D + d] : 0;
            f->w[d * f->width + i] = w;
            mass += w;
        }
        f->mass[i] = mass;
    }
}
static void errors(const Settings *p, Front *f, const double *x) {
    for (int64_t b = 0; b < f->count; b += LANES) {
        double sum[LANES] = {0};
        for (int64_t d = 0; d < p->features; d++) {
            const double *restrict c = f->c + d * f->width + b, *restrict w = f->w + d * f->width + b;
            for (int i = 0; i < LANES; i++) { double g = x[d] - c[i]; sum[i] += w[i] * g * g; }
        }
        for (int i = 0; i < LANES; i++) f->rho[b + i] = sum[i] / f->mass[b + i];
    }
    for (int64_t i = f->count; i < f->width; i++) f->rho[i] = INFINITY;
}
static int64_t nearest(const Front *f, double *rho) {
    double low[8];
    for (int k = 0; k < 8; k++) low[k] = INFINITY;
    for (int64_t i = 0; i < f->width; i += 8)
        for (int k = 0; k < 8; k++) low[k] = f->rho[i + k] < low[k] ? f->rho[i + k] : low[k];
    *rho = INFINITY;
    for (int k = 0; k < 8; k++) *rho = low[k] < *rho ? low[k] : *rho;
    for (int64_t i = 0; i < f->count; i++) if (f->rho[i] == *rho) return f->slot[i];
    return -1;
}
/* The nearest node whose class is the label or none; with label -2 the nearest that has a class. */
static int64_t nearest_of(const Front *f, const int64_t *cls, int64_t label, double *rho) {
    int64_t best = -1;
    *rho = INFINITY;
    for (int64_t i = 0; i < f->count; i++) {
        int64_t k = cls[f->slot[i]];
        if (f->rho[i] < *rho && (label == -2 ? k != -1 : k == -1 || k == label)) { *rho = f->rho[i]; best = f->slot[i]; }
    }
    return best;
}
static void boxes(const Settings *p, Nodes s, double *box) {
    int64_t D = p->features;
    double reach = 0;
    for (int64_t i = 0; i < p->capacity * D; i++) if (fabs(s.c[i]) > reach) reach = fabs(s.c[i]);
    double slack = fmax(0x1p-32 * reach, 0x1p-38);
    for (int64_t j = 0; j < p->capacity; j++) {
        double share = s.alive[j] ? start_share(p, s.upd[j]) : INFINITY;
        for (int64_t d = 0; d < D; d++) box[j * D + d] = s.dev[j * D + d] / share / s.w[j * D + d] + slack;
    }
}
static int inside(const double *x, const double *c, const double *box, int64_t D) {
    for (int64_t d = 0; d < D; d++) if (fabs(x[d] - c[d]) > box[d]) return 0;
    return 1;
}

/* ---- order of candidates: labelled first, worst represented, place in the round ---- */
static int before(const void *a, const void *b) {
    const Candidate *p = a, *q = b;
    if ((p->label >= 0) != (q->label >= 0)) return p->label >= 0 ? -1 : 1;
    if (p->rho != q->rho) return p->rho > q->rho ? -1 : 1;
    return p->position < q->position ? -1 : 1;
}
static int by_key(const void *a, const void *b) {
    const Contested *p = a, *q = b;
    if (p->node != q->node) return p->node < q->node ? -1 : 1;
    return p->label < q->label ? -1 : p->label > q->label;
}
static int clone_order(const void *a, const void *b) {
    const Contested *p = a, *q = b;
    if (p->count != q->count) return p->count > q->count ? -1 : 1;
    if (p->label != q->label) return p->label < q->label ? -1 : 1;
    if (p->conflict != q->conflict) return p->conflict ? -1 : 1;
    return p->node < q->node ? -1 : 1;
}

static void clear_node(const Settings *p, Nodes s, int64_t j) {
    for (int64_t d = 0; d < p->features; d++) {
        s.c[j * p->features + d] = 0; s.dev[j * p->features + d] = 0; s.w[j * p->features + d] = 1;
    }
    s.alive[j] = 0; s.cls[j] = -1; s.wins[j] = s.upd[j] = s.born[j] = 0;
}
static void copy_node(const Settings *p, Nodes to, int64_t i, Nodes from, int64_t j) {
    size_t bytes = p->features * 8;
    memcpy(to.c + i * p->features, from.c + j * p->features, bytes);
    memcpy(to.w + i * p->features, from.w + j * p->features, bytes);
    memcpy(to.dev + i * p->features, from.dev + j * p->features, bytes);
    to.cls[i] = from.cls[j]; to.upd[i] = from.upd[j]; to.wins[i] = from.wins[j]; to.born[i] = from.born[j];
    to.alive[i] = from.alive[j];
}

static int prune(const Settings *p, Nodes s, int64_t *clock) {
    if (*clock < p->period) return 0;
    int64_t K = p->capacity, strongest = -1, survivors = 0;
    for (int64_t j = 0; j < K; j++) {
        if (!s.alive[j]) continue;
        if (strongest < 0 || s.wins[j] > s.wins[strongest]) strongest = j;
        if ((double)s.wins[j] >= p->win_share * (double)(*clock - (p->credit ? s.born[j] : 0))) survivors++;
    }
    for (int64_t j = 0; j < K; j++) {
        if (!s.alive[j]) continue;
        int keep = (double)s.wins[j] >= p->win_share * (double)(*clock - (p->credit ? s.born[j] : 0));
        if (!keep && !(survivors == 0 && j == strongest)) clear_node(p, s, j);
    }
    for (int64_t j = 0; j < K; j++) s.wins[j] = s.born[j] = 0;
    *clock = 0;
    return 1;
}

/* Nodes with like relevances and no conflict of classes; `f` faces the map. */
static void reconnect(const Settings *p, Nodes s, const Front *f, uint8_t *links) {
    int64_t K = p->capacity, D = p->features;
    double limit = p->connection * p->connection * D;
    memset(links, 0, K * K);
    if (p->connection == 0) return;
    for (int64_t a = 0; a < f->count; a++) {
        int64_t j = f->slot[a];
        const double *w = s.w + j * D;
        for (int64_t b = a / LANES * LANES; b < f->count; b += LANES) {
            double gap[LANES] = {0};
            for (int64_t d = 0; d < D; d++) {
                const double *restrict v = f->w + d * f->width + b;
                for (int i = 0; i < LANES; i++) gap[i] += (v[i] - w[d]) * (v[i] - w[d]);
            }
            for (int i = 0; i < LANES && b + i < f->count; i++) {
                int64_t l = f->slot[b + i];
                if (l <= j || gap[i] >= limit || (s.cls[j] != s.cls[l] && s.cls[j] != -1 && s.cls[l] != -1)) continue;
                links[j * K + l] = links[l * K + j] = 1;
            }
        }
    }
}

static void add(Moments m, int64_t j, const double *restrict whole_x, const double *restrict whole_c, int64_t P) {
    double *restrict sx = m.x + j * P, *restrict gap = m.gap + j * P;
    m.n[j] += 1;
    for (int64_t d = 0; d < P; d += 8)
        for (int64_t i = d; i < d + 8; i++) {
            sx[i] += whole_x[i];
            gap[i] += fabs(whole_x[i] - whole_c[i]);
        }
}

#define MOMENT(m, j) (&(Moment){(m).n[j], (m).x + (j) * P, (m).gap + (j) * P})

/* Train a map to its end. keys: two per epoch for draws with replacement (somcore.sampling); or NULL and `order`, N rows
 * per epoch. Returns rounds done, -1 if the epochs given ran out. */
int64_t somgrad_screen(const Settings *p, const double *X, const int64_t *y, const uint64_t *keys,
                       const int64_t *order, int64_t epochs,
                       double *out_c, double *out_w, double *out_dev, uint8_t *out_alive, int64_t *out_cls,
                       int64_t *out_upd) {
    const int64_t N = p->samples, D = p->features, K = p->capacity, C = p->classes, P = (D + 7) / 8 * 8;
    Nodes s = make_nodes(K, D), frozen = make_nodes(K, D), clones = make_nodes(p->batch, D);
    uint8_t *links = make(K * K, 1), *linked = make(K, 1);
    Front f = make_front(K, D);
    Moments pull = make_moments(K, P), near = make_moments(K, P), other = make_moments(K, P);
    double *box = make(K * D, 8), *whole_c = make(K * P, 8), *whole_x = make(P, 8), *scratch = make(D, 8);
    double *lent = make(K * D, 8), *zero = make(P, 8), *noise = make(D, 8);
    int64_t *wins = make(K, 8), *updates = make(K, 8), *left = make(K, 8), *votes = make(K * (C + 1), 8);
    int64_t *row = make(p->batch, 8);
    Candidate *cand = make(p->batch, sizeof(Candidate));
    Contested *cont = make(p->batch, sizeof(Contested));
    double *cont_x = make(p->batch * D, 8), *cont_gap = make(p->batch * D, 8);
    int64_t rounds_per_epoch = (N + p->batch - 1) / p->batch, round = 0, clock = 0;
    int growing = 1, finished = 0;

    while (!finished) {
        int64_t epoch = round / rounds_per_epoch, start = round % rounds_per_epoch * p->batch;
        int64_t n = N - start < p->batch ? N - start : p->batch, num_cand = 0, num_cont = 0;
        if (epoch >= epochs) { round = -1; break; }
        double reach = p->max_abs;
        int room = 0;
        for (int64_t i = 0; i < K * D; i++) if (fabs(s.c[i]) > reach) reach = fabs(s.c[i]);
        int exponent = reach > 0 ? (int)ceil(log2(reach)) : 0, headroom = (int)p->headroom - exponent - (int)ceil(log2((double)n));
        int q = (int)p->mantissa - exponent < headroom ? (int)p->mantissa - exponent : headroom;
        double up = ldexp(1, q), unit = ldexp(1, -q);
        for (int64_t j = 0; j < K; j++)
            for (int64_t d = 0; d < D && s.alive[j]; d++) whole_c[j * P + d] = nearbyint(s.c[j * D + d] * up);
        for (int64_t j = 0; j < K; j++) {
            room |= !s.alive[j];
            linked[j] = memchr(links + j * K, 1, K) != NULL;
        }
        room = room && growing;
        clear_moments(pull, K, P); clear_moments(near, K, P); clear_moments(other, K, P);
        memset(wins, 0, K * 8); memset(updates, 0, K * 8); memset(votes, 0, K * (C + 1) * 8);
        if (p->variant == ALTSSSOM) boxes(p, s, box);

        /* accumulate; f faces the map */
        for (int64_t i = 0; i < n; i++) {
            if (order) row[i] = order[epoch * N + start + i];
            else row[i] = (int64_t)(mix(mix((uint64_t)(start + i), keys[2 * epoch]), keys[2 * epoch + 1]) % (uint64_t)N);
            const double *x = X + row[i] * D;
            double *wx = whole_x, rho, best_rho;
            for (int64_t d = 0; d < D; d++) wx[d] = nearbyint(x[d] * up);
            int64_t label = p->variant == LARFDSSOM || C == 0 ? -1 : y[row[i]];
            errors(p, &f, x);
            int64_t bmu = nearest(&f, &rho), best = bmu;
            best_rho = rho;
            if (bmu >= 0 && label >= 0 && s.cls[bmu] != -1 && s.cls[bmu] != label) best = nearest_of(&f, s.cls, label, &best_rho);
            int matched, same = bmu >= 0 && best == bmu, candidate, clone = 0;
            if (p->variant == ALTSSSOM) {
                matched = best >= 0 && (best != bmu || inside(x, s.c + bmu * D, box + bmu * D, D));
                int outside = same && !matched, unseen = best < 0 && bmu >= 0;
                candidate = room && (outside || bmu < 0);
                clone = room && unseen;
                if (outside || (unseen && !clone)) {
                    add(other, bmu, wx, whole_c + bmu * P, P);
                    updates[bmu]++;
                    if (outside && !candidate && label >= 0) wins[bmu]++;
                }
            } else {
                matched = best_rho <= p->threshold;
                candidate = room && !matched;
                if (p->variant == SSSOM && matched && best != bmu) add(other, bmu, wx, whole_c + bmu * P, P);
            }
            if (matched) {
                add(pull, best, wx, whole_c + best * P, P);
                wins[best]++; updates[best]++;
                if (linked[best] && (p->variant != ALTSSSOM || same)) {
                    const uint8_t *link = links + best * K;
                    for (int64_t l = 0; l < K; l++) {
                        if (!link[l] || (C && s.cls[l] != -1 && label != -1 && s.cls[l] != label)) continue;
                        add(near, l, wx, whole_c + l * P, P);
                        updates[l]++;
                    }
                }
            }
            int direct = same && matched && label >= 0;
            if (direct) votes[bmu * (C + 1) + label]++;
            if ((direct && s.cls[bmu] == -1) || clone) {
                int64_t k = 0;
                while (k < num_cont && !(cont[k].node == bmu && cont[k].label == label)) k++;
                if (k == num_cont) {
                    cont[num_cont++] = (Contested){bmu, label, 0, cont_x + k * D, cont_gap + k * D, 0};
                    memset(cont_x + k * D, 0, D * 8); memset(cont_gap + k * D, 0, D * 8);
                }
                cont[k].count++;
                for (int64_t d = 0; d < D; d++) {
                    cont[k].x[d] += wx[d]; cont[k].gap[d] += fabs(wx[d] - whole_c[bmu * P + d]);
                }
            }
            if (candidate) cand[num_cand++] = (Candidate){row[i], start + i, bmu, label, best_rho, 1};
        }

        /* the first of each group, then the first of all */
        qsort(cand, num_cand, sizeof(Candidate), before);
        int64_t kept_cand = 0;
        for (int64_t i = 0; i < num_cand && kept_cand < K; i++) {
            int64_t place = 0;
            for (int64_t k = 0; k < kept_cand; k++) place += cand[k].bmu == cand[i].bmu && cand[k].label == cand[i].label;
            if (place < p->per_group) cand[kept_cand++] = cand[i];
        }
        num_cand = kept_cand;

        /* classes and clones */
        for (int64_t j = 0; j < K; j++) copy_node(p, frozen, j, s, j);
        memcpy(left, updates, K * 8);
        for (int64_t j = 0; j < K && C; j++) {
            if (!s.alive[j] || s.cls[j] != -1) continue;
            int64_t top = -1, most = 0;
            for (int64_t k = 0; k < C; k++) if (votes[j * (C + 1) + k] > most) { most = votes[j * (C + 1) + k]; top = k; }
            if (top >= 0) s.cls[j] = top;
        }
        qsort(cont, num_cont, sizeof(Contested), by_key);
        int64_t asking = 0;
        for (int64_t i = 0; i < num_cont; i++) {
            Contested *t = cont + i;
            int64_t j = t->node;
            int unseen = frozen.cls[j] != -1;
            t->conflict = !unseen && s.cls[j] != t->label;
            if (t->conflict) {
                pull.n[j] -= t->count; wins[j] -= t->count; left[j] -= t->count;
                for (int64_t d = 0; d < D; d++) { pull.x[j * P + d] -= t->x[d]; pull.gap[j * P + d] -= t->gap[d]; }
            }
            int asks = t->conflict;
            if (unseen) { /* the BMU that won most of its samples; ties to the lowest index */
                asks = 1;
                for (int64_t k = 0; k < num_cont && asks; k++)
                    if (k != i && cont[k].label == t->label && frozen.cls[cont[k].node] != -1 &&
                        (cont[k].count > t->count || (cont[k].count == t->count && cont[k].node < j))) asks = 0;
            }
            if (!asks) t->label = -2;
        }
        for (int64_t i = 0; i < num_cont; i++) if (cont[i].label != -2) { Contested t = cont[asking]; cont[asking++] = cont[i]; cont[i] = t; }
        qsort(cont, asking, sizeof(Contested), clone_order);
        if (!growing) asking = 0;
        Moment none = {0, zero, zero};
        for (int64_t i = 0; i < asking; i++) {
            copy_node(p, clones, i, frozen, cont[i].node);
            adapt(p, clones, i, unit, &(Moment){(double)cont[i].count, cont[i].x, cont[i].gap}, &none, &none, cont[i].count, scratch);
            clones.cls[i] = cont[i].label;
        }

        /* adapt, prune */
        for (int64_t j = 0; j < K; j++) {
            adapt(p, s, j, unit, MOMENT(pull, j), MOMENT(near, j), MOMENT(other, j), left[j], scratch);
            s.wins[j] += wins[j];
        }
        clock += n;
        if (p->variant == ALTSSSOM) boxes(p, s, lent);
        int ended = prune(p, s, &clock);
        if (p->variant == ALTSSSOM) boxes(p, s, box); /* before clones: only the frozen map's nodes accept */

        /* insert: clones, then candidates */
        if (growing) {
            int64_t slot = 0;
            for (int64_t i = 0; i < asking; i++) {
                if (s.alive[cont[i].node] != 1) continue;
                while (slot < K && s.alive[slot]) slot++;
                if (slot == K) break;
                copy_node(p, s, slot, clones, i);
                s.alive[slot] = 3; /* newborn: in its slot the node of a clone may have been pruned */
                s.wins[slot] = ended || !cont[i].conflict ? 0 : cont[i].count;
                s.born[slot] = clock;
            }
            if (p->variant != ALTSSSOM) face(p, s, &f);
            for (int64_t i = 0; i < num_cand; i++) {
                Candidate *t = cand + i;
                const double *x = X + t->row * D;
                if (p->variant == ALTSSSOM) {
                    int64_t b = t->bmu;
                    if (b >= 0 && s.alive[b] == 1 && updates[b] > 1 && (s.cls[b] == t->label || s.cls[b] == -1 || t->label == -1) &&
                        inside(x, s.c + b * D, box + b * D, D)) t->open = 0;
                } else {
                    double rho, best_rho;
                    errors(p, &f, x);
                    int64_t b = nearest(&f, &rho);
                    best_rho = rho;
                    if (b >= 0 && t->label >= 0 && s.cls[b] != -1 && s.cls[b] != t->label) nearest_of(&f, s.cls, t->label, &best_rho);
                    if (best_rho <= p->threshold) t->open = 0;
                }
            }
            for (int64_t d = 0; d < D; d++) noise[d] = 0;
            slot = 0;
            for (int64_t i = 0; i < num_cand; i++) {
                if (!cand[i].open) continue;
                while (slot < K && s.alive[slot]) slot++;
                if (slot == K) break;
                const double *x = X + cand[i].row * D;
                memcpy(s.c + slot * D, x, D * 8);
                s.alive[slot] = 1; s.cls[slot] = cand[i].label; s.born[slot] = clock;
                for (int64_t k = i + 1; k < num_cand; k++) {
                    if (!cand[k].open) continue;
                    if (!(cand[k].label == cand[i].label || cand[k].label == -1 || cand[i].label == -1)) continue;
                    const double *z = X + cand[k].row * D;
                    if (p->variant == ALTSSSOM) {
                        if (inside(z, x, cand[k].bmu >= 0 ? lent + cand[k].bmu * D : noise, D)) cand[k].open = 0;
                    } else {
                        double gap = 0;
                        for (int64_t d = 0; d < D; d++) gap += (z[d] - x[d]) * (z[d] - x[d]);
                        if (gap / D <= p->threshold) cand[k].open = 0;
                    }
                }
            }
        }
        for (int64_t j = 0; j < K; j++) s.alive[j] = s.alive[j] != 0;
        face(p, s, &f);
        reconnect(p, s, &f, links);
        round++;
        finished = !growing && ended;
        growing = growing && !(round >= p->rounds && ended);
    }
    memcpy(out_c, s.c, K * D * 8); memcpy(out_w, s.w, K * D * 8); memcpy(out_dev, s.dev, K * D * 8);
    memcpy(out_alive, s.alive, K); memcpy(out_cls, s.cls, K * 8); memcpy(out_upd, s.upd, K * 8);
    free_nodes(s); free_nodes(frozen); free_nodes(clones);
    free_moments(pull); free_moments(near); free_moments(other);
    free(links); free(linked); free_front(f);
    free(box); free(whole_c); free(whole_x); free(scratch); free(lent); free(zero); free(noise);
    free(wins); free(updates); free(left); free(votes); free(row); free(cand); free(cont);
    free(cont_x); free(cont_gap);
    return round;
}

/* Class of the BMU; where it has none, of the nearest node that has one; -1 if none has. */
void somgrad_classes(int64_t n, int64_t D, int64_t K, const double *X, double *c, double *w, uint8_t *alive,
                     int64_t *cls, int64_t *out) {
    Settings p = {.features = D, .capacity = K};
    Nodes s = {.c = c, .w = w, .alive = alive, .cls = cls};
    Front f = make_front(K, D);
    face(&p, s, &f);
    for (int64_t i = 0; i < n; i++) {
        double rho;
        errors(&p, &f, X + i * D);
        int64_t b = nearest(&f, &rho);
        if (b >= 0 && cls[b] == -1) b = nearest_of(&f, cls, -2, &rho);
        out[i] = b < 0 ? -1 : cls[b];
    }
    free_front(f);
}
