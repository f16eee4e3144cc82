/* The flame graph: callers below, callees above, the width of a frame its share of the samples. */
#include <stdlib.h>
#include <string.h>

#include "runtime/profile_tree.h"

#define WIDTH 1200u
#define MARGIN 10u
#define ROW 17u
#define HEAD 62u
#define FOOT 30u
#define CHARACTER 6.6 /* width of one, in the font below */
#define DEPTH_MAX 512u
#define NARROWEST 0.15 /* frames below this width are not drawn */

struct picture {
	const struct profile_tree *tree;
	FILE *out;
	double scale; /* width of a sample */
	unsigned depth; /* of the deepest frame drawn */
	uint32_t *order; /* children being sorted, level by level */
	uint32_t order_size, order_room;
};

static void print_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<') fputs("&lt;", out);
		else if (*text == '>') fputs("&gt;", out);
		else if (*text == '&') fputs("&amp;", out);
		else if (*text == '"') fputs("&quot;", out);
		else fputc((unsigned char)*text < ' ' ? '?' : *text, out);
	}
}

/* The same name has the same colour in every picture; the hue says what the frame is. */
static void print_color(FILE *out, const char *name, enum frame_kind kind)
{
	static const struct {
		unsigned hue, spread, saturation;
	} colors[] = {
		[FRAME_ALL] = { 0, 1, 0 }, [FRAME_KERNEL] = { 12, 30, 85 }, [FRAME_USER] = { 95, 45, 55 }, [FRAME_UNKNOWN] = { 50, 8, 45 },
		[FRAME_MONITOR] = { 205, 30, 60 },
	};
	uint32_t hash = 2166136261u;
	for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
	fprintf(out, "hsl(%u,%u%%,%u%%)", colors[kind].hue + hash % colors[kind].spread, colors[kind].saturation, 62 + (hash >> 8) % 14);
}

static double width_of(const struct picture *p, uint32_t node)
{
	return (double)profile_tree_node(p->tree, node)->total * p->scale;
}

static const struct profile_tree *sorted; /* qsort has no context: for compare() */

static int compare(const void *a, const void *b)
{
	return strcmp(profile_tree_name(sorted, *(const uint32_t *)a), profile_tree_name(sorted, *(const uint32_t *)b));
}

/* The children of a node that are wide enough, by name. Returns how many; they are the last of `order`. */
static uint32_t sort_children(struct picture *p, uint32_t node)
{
	uint32_t from = p->order_size;
	for (uint32_t i = profile_tree_node(p->tree, node)->first_child; i; i = profile_tree_node(p->tree, i)->next) {
		if (width_of(p, i) < NARROWEST) continue;
		if (p->order_size == p->order_room) {
			uint32_t room = p->order_room ? 2 * p->order_room : 1024;
			uint32_t *grown = realloc(p->order, room * sizeof(*grown));
			if (!grown) break;
			p->order = grown;
			p->order_room = room;
		}
		p->order[p->order_size++] = i;
	}
	sorted = p->tree;
	if (p->order_size > from) qsort(p->order + from, p->order_size - from, sizeof(*p->order), compare);
	return p->order_size - from;
}

/* Frames are laid out from the top of the picture; the script and the style turn nothing: depth 0 is drawn at the bottom by its y. */
static void draw_frame(struct picture *p, uint32_t node, double x, unsigned depth, unsigned deepest)
{
	const struct profile_node *n = profile_tree_node(p->tree, node);
	const char *name = profile_tree_name(p->tree, node);
	double width = width_of(p, node), share = 100.0 * (double)n->total / (double)profile_tree_samples(p->tree);
	unsigned y = HEAD + (deepest - depth) * ROW;
	int letters = (int)((width - 4) / CHARACTER), length = (int)strlen(name);
	fprintf(p->out, "<g class=\"f\" data-x=\"%.3f\" data-w=\"%.3f\" data-d=\"%u\"><title>", x, width, depth);
	print_text(p->out, name);
	fprintf(p->out, " (%llu samples, %.2f%%)</title><rect x=\"%.2f\" y=\"%u\" width=\"%.2f\" height=\"%u\" fill=\"", (unsigned long long)n->total,
		share, x, y, width, ROW - 1);
	print_color(p->out, name, n->kind);
	fprintf(p->out, "\"/><text x=\"%.2f\" y=\"%u\">", x + 3, y + 12);
	if (letters >= 3) {
		char shown[256];
		snprintf(shown, sizeof(shown), "%.*s%s", length > letters ? letters - 2 : letters, name, length > letters ? ".." : "");
		print_text(p->out, shown);
	}
	fputs("</text></g>\n", p->out);
}

/* Either how deep the graph is (draw = false), or the graph itself. */
static void visit(struct picture *p, uint32_t node, double x, unsigned depth, bool draw, unsigned deepest)
{
	if (draw) draw_frame(p, node, x, depth, deepest);
	if (depth > p->depth) p->depth = depth;
	if (depth == DEPTH_MAX) return;
	uint32_t from = p->order_size, count = sort_children(p, node);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t child = p->order[from + i];
		visit(p, child, x, depth + 1, draw, deepest);
		x += width_of(p, child);
	}
	p->order_size = from;
}

static const char style[] =
	"<style>text{font:11px monospace;fill:#111;pointer-events:none}.t{font:bold 16px sans-serif;text-anchor:middle}"
	".s{font:12px sans-serif;text-anchor:middle}.b{font:12px sans-serif;fill:#06c;pointer-events:auto;cursor:pointer}.f{cursor:pointer}"
	".f:hover rect{stroke:#000}.dim rect{opacity:.45}.hit rect{fill:#d0f!important;fill:#c3f}</style>\n";

/* A click on a frame gives it and its callees the whole width; its callers stay, dimmed. */
static const char script[] =
	"<script><![CDATA[\n"
	"(function(){\n"
	"var svg=document.documentElement,frames=[].slice.call(svg.querySelectorAll('.f')),info=svg.getElementById('info'),W=%u,M=%u,C=%.1f;\n"
	"frames.forEach(function(g){g.X=+g.dataset.x-M;g.W=+g.dataset.w;g.D=+g.dataset.d;g.T=g.querySelector('title').textContent;\n"
	" g.N=g.T.replace(/ \\([^()]*\\)$/,'');g.onclick=function(){zoom(g)};g.onmouseover=function(){info.textContent=g.T};});\n"
	"function place(g,x,w){var r=g.querySelector('rect'),t=g.querySelector('text'),n=Math.floor((w-4)/C);\n"
	" r.setAttribute('x',M+x);r.setAttribute('width',Math.max(0,w));t.setAttribute('x',M+x+3);\n"
	" t.textContent=n<3?'':g.N.length>n?g.N.slice(0,n-2)+'..':g.N;}\n"
	"function zoom(z){frames.forEach(function(g){var under=g.D<z.D,e=1e-2;\n"
	" var inside=g.X>=z.X-e&&g.X+g.W<=z.X+z.W+e&&!under,caller=under&&g.X<=z.X+e&&g.X+g.W>=z.X+z.W-e;\n"
	" g.style.display=inside||caller?'':'none';g.classList.toggle('dim',caller);\n"
	" if(caller)place(g,0,W);else if(inside)place(g,(g.X-z.X)*W/z.W,g.W*W/z.W);});}\n"
	"function search(){var q=prompt('Search for (regular expression):','');var re=null;\n"
	" try{re=q?new RegExp(q):null}catch(e){info.textContent='no regular expression: '+q;return}\n"
	" var spans=[];frames.forEach(function(g){var hit=re&&re.test(g.N);g.classList.toggle('hit',!!hit);if(hit)spans.push([g.X,g.X+g.W]);});\n"
	" spans.sort(function(a,b){return a[0]-b[0]});var sum=0,end=0;\n"
	" spans.forEach(function(s){sum+=Math.max(0,s[1]-Math.max(s[0],end));end=Math.max(end,s[1]);});\n"
	" info.textContent=re?'matched '+(100*sum/W).toFixed(2)+'%% of the samples':'';}\n"
	"svg.getElementById('reset').onclick=function(){zoom(frames[0])};svg.getElementById('search').onclick=search;\n"
	"window.addEventListener('keydown',function(e){if(e.key=='Escape')zoom(frames[0]);\n"
	" if(e.key=='f'&&(e.ctrlKey||e.metaKey)){e.preventDefault();search();}});\n"
	"})();\n"
	"]]></script>\n";

static void print_legend(FILE *out, unsigned y)
{
	static const struct {
		const char *text;
		enum frame_kind kind;
	} rows[] = { { "rings 0-2", FRAME_KERNEL }, { "ring 3", FRAME_USER }, { "no symbol", FRAME_UNKNOWN }, { "bt-vmm itself", FRAME_MONITOR } };
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned x = WIDTH - 460 + i * 115;
		fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"12\" height=\"12\" fill=\"", x, y - 10);
		print_color(out, rows[i].text, rows[i].kind);
		fprintf(out, "\"/><text x=\"%u\" y=\"%u\" style=\"font:12px sans-serif\">%s</text>\n", x + 16, y, rows[i].text);
	}
}

static void print_head(const struct picture *p, const char *subtitle, unsigned height)
{
	fprintf(p->out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\">\n",
		WIDTH, height, WIDTH, height);
	fputs(style, p->out);
	fprintf(p->out, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fafafa\"/>\n<text class=\"t\" x=\"%u\" y=\"24\">Where the guest's time went</text>\n",
		WIDTH / 2);
	fprintf(p->out, "<text class=\"s\" x=\"%u\" y=\"42\">", WIDTH / 2);
	print_text(p->out, subtitle);
	fprintf(p->out, "</text>\n<text class=\"b\" id=\"reset\" x=\"%u\" y=\"24\">Whole picture</text><text class=\"b\" id=\"search\" x=\"%u\" y=\"24\">Search</text>\n",
		MARGIN, WIDTH - 60);
	fprintf(p->out, "<text id=\"info\" x=\"%u\" y=\"%u\"></text>\n", MARGIN, height - 10);
	print_legend(p->out, height - 10);
}

void profile_svg_write(const struct profile_tree *t, const char *subtitle, FILE *out)
{
	uint64_t samples = profile_tree_samples(t);
	struct picture p = { .tree = t, .out = out, .scale = samples ? (double)(WIDTH - 2 * MARGIN) / (double)samples : 0 };
	visit(&p, PROFILE_ROOT, MARGIN, 0, false, 0);
	unsigned deepest = p.depth;
	print_head(&p, subtitle, HEAD + (deepest + 1) * ROW + FOOT);
	if (samples) visit(&p, PROFILE_ROOT, MARGIN, 0, true, deepest);
	if (samples) fprintf(out, script, WIDTH - 2 * MARGIN, MARGIN, CHARACTER);
	fputs("</svg>\n", out);
	free(p.order);
}
