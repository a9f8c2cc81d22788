"""What each machine's instructions do, as far as a proof of integer-only code needs it. Data only.

Every instruction is of the first of these kinds that has its name:

    carriers   named after floats, but move, load, store, shuffle or select bits as they are
    floats     compute with floats, compare them, convert from or to them, or ask for their state
    divisions  of integers: nothing in a core divides
    integers   all others that compute with integers only, move data, or jump

One of no kind is unknown, which is a fault: the lists prove, they don't search. Names are
llvm-objdump's; of Hexagon, whose instructions are formulas, the names of the operations in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NEVER = r"(?!)"


@dataclass(frozen=True, eq=False)
class InstructionSet:
    """One architecture: patterns of names, blanks between them; see the module.

    `float_operands` is looked for in the whole line: operands that make any instruction a float
    one. `suffix`: what any name may end with, such as ARM's conditions. `dots`: what contractions
    are made of, by a name of ours: how the lines start that multiply integers and add up products.
    """

    carriers: str
    floats: str
    divisions: str
    integers: str
    dots: Mapping[str, str]
    suffix: str = ""
    float_operands: str = NEVER


X86 = InstructionSet(
    carriers=r"""
        v?mov[au]p[sd] v?movs[sd] v?mov[hl]p[sd] v?mov(hl|lh)ps v?movmskp[sd] v?movntp[sd]
        v?mov(sl|sh|d)dup v?(andn?|x?or)p[sd] v?shufp[sd] v?unpck[hl]p[sd] v?blendv?p[sd]
        vblendmp[sd] vbroadcast(s[sd]|f\d+(x\d)?) vperm(il|i2|t2)?p[sd] vperm2f128 vshuff\d+x\d
        v(insert|extract)f\d+(x\d)? v?(insert|extract)ps v(gather|scatter)[dq]p[sd]
        v(compress|expand)p[sd]
        """,
    floats=r"""
        f[a-z]\w* v?cvt\w+ (?!v?p)\w*[ps][sdh] v\w*bf16\w* v?u?comis[sdh] v?(ld|st)mxcsr emms
        """,
    divisions=r"i?div[bwlq]",
    integers=r"""
        (add|adc|sub|sbb|and|or|xor|cmp|test|mov|movabs|neg|not|inc|dec|lea|xchg|xadd|bswap)[bwlq]
        (i?mul|sa[rl]|sh[rl]|ro[rl]|bt[src]?|bs[fr]|tzcnt|lzcnt|popcnt|push|pop|cmpxchg)[bwlq]
        (sar|shr|shl|ror|mul|andn|bextr|bls[ir]|blsmsk|bzhi|pext|pdep|sh[lr]d)x?[lq]
        mov[sz][bwl][wlq] c[wlq]t[dolq] cltq cqto rep stos[bwlq] movs[bwlq]
        (set|cmov|j)n?(a|ae|b|be|c|e|g|ge|l|le|o|p|s)[wlq]? (jmp|call|ret)q? leave
        nop[wl]? data16 endbr64 pause lock ud2 int3 vzeroupper vzeroall cpuid xgetbv
        v?mov(d|q|dq[au]|dqu(8|16|32|64)|dqa(32|64)|ntdqa?) v?lddqu kmov[bwdq]
        k(and|andn|or|xor|xnor|not|add|shiftl|shiftr|ortest|test|unpck)(bw|wd|dq|[bwdq])
        v?p(add|sub)(u?s)?[bwdq] v?pm(ax|in)[su][bwdq] v?pmul(h?dq|hu?w|hrsw|l[dwq]|udq)
        v?pmadd(ubsw|wd) vpdp(bu|ws|bs|bu|ww)[su]?[sd]s? vpmadd52[lh]uq v?pabs[bwdq] v?psadbw
        v?p(and|andn|or|xor)[dq]? vpternlog[dq] v?pcmp(eq|gt)[bwdq]
        vpcmp\w+[bwdq] vptestn?m[bwdq] v?ptest v?psign[bwd] v?pavg[bw]
        v?ps(ll|rl|ra)v?[wdq] v?ps(ll|rl)dq vpro[lr]v?[dq] vpsh[lr]dv?[wdq] vpmultishiftqb
        v?pack[su]s(wb|dw) v?punpck[hl](bw|wd|dq|qdq) v?pshuf(b|d|hw|lw) v?palignr valign[dq]
        v?pblend(vb|w|d) vpblendm[bwdq] v?pmovmskb vpmov([bwdq]2m|m2[bwdq])
        v?ph(add|sub)s?[wd] v?phminposuw
        v?pmov[sz]x(bw|bd|bq|wd|wq|dq) vpmov(us|s)?(wb|db|dw|qb|qw|qd)
        v?p(insr|extr)[bwdq] vpbroadcast[bwdq] vbroadcasti\d+(x\d)? vpbroadcastm\w+
        vperm[bwdq] vperm[it]2[bwdq] vperm2i128 v(insert|extract)i\d+(x\d)? vshufi\d+x\d
        vp(compress|expand|gather|scatter)[bwdq]{1,2} vgf2p8\w+ vplzcnt[dq]
        """,
    dots={
        "vpdpbusd": r"vpdp(bu|bs)[su]ds? ",
        "vpmaddubsw": r"v?pmaddubsw ",
        "vpmaddwd": r"v?p(maddwd|dpwssds?) ",
    },
)

AARCH64 = InstructionSet(
    carriers=r"fmov fcsel",
    floats=r"f\w+ [su]cvtf bf(cvt|dot|mmla|mlal)\w* bf[a-z]+\d+",
    divisions=r"[su]div",
    integers=r"""
        (add|sub|adc|sbc|and|bic)s? orr orn eor eon mvn neg(s|c)? ngcs? cmp cmn tst
        mov movi mvni movk movn movz mul madd msub mneg [su]m(add|sub|neg|ul)l? [su]mulh smull
        (asr|lsl|lsr|ror)v? [su]?bfx?i?[lz]? bfxil bfm [su]bfm bfc extr clz cls rbit rev(16|32|64)?
        [su]xt[bhw] cs(el|inc|inv|neg|et|etm) c(inc|inv|neg) ccm[pn] adrp? nop hint bti
        b b\.\w+ bl blr br ret cbn?z tbn?z brk udf
        (ld|st)(u?r|n?p|tr)(s?[bhw]|sw)? ldpsw prfu?m
        (ld|st)[1-4]r? dmb dsb isb mrs msr
        [su]?(dot|mmla) (us|su)(dot|mmla) [su]?(ml[as]|mul|abd|aba|add|sub)[lw]2? pmull?2? mls mla
        sq(r?d)mul(h|l|l2|ah|sh) sqdml[as]l2? s?q(add|sub|abs|neg) u(q|h|rh)(add|sub)
        s(h|rh)(add|sub)
        (r?add|r?sub)hn2? [su]?addl?[pv] [su]adalp [su]addlp [su]addlv [su](max|min)[pv]? abs
        cm(eq|ge|gt|hi|hs|le|lt|tst) bi[ft] bsl cnt not
        [su]?(q|r|qr)?sh[lr](u|l|n|ll)?2? [su]shll2? shll2? sq?r?shru?n2? uq?r?shrn2? r?shrn2?
        [su]r?sra s[lr]i xtn2? [su]qxtn2? sqxtun2? [su]xtl2?
        dup ins [su]mov ext zip[12] uzp[12] trn[12] tb[lx]
        """,
    dots={
        "mmla": r"(s|u|us)mmla v\d+\.4s",
        "dot": r"(s|u|us|su)dot v\d+\.[24]s",
        "mull.8h": r"[su](mull|mlal)2? v\d+\.8h",
        "adalp": r"[su]adalp v\d+\.4s",
        "mlal.4s": r"[su]mlal2? v\d+\.4s",
        "mla.4s": r"mla v\d+\.4s",
    },
)

ARM = InstructionSet(
    carriers=r"""
        v(ldr|str|push|pop) v(ldm|stm)(ia|db)? vmov(\.f(16|32|64))? vmovx\.f16 vins\.f16
        vsel\w*\.f(16|32|64)
        """,
    floats=r"v\w+\.b?f(16|32|64)(\.\w+)* v\w+(\.\w+)*\.b?f(16|32|64) vcvt\w* v?fm\w+ vj?cvt\w*",
    divisions=r"[su]div",
    integers=r"""
        (add|sub|adc|sbc|rsb|rsc|and|orr|orn|eor|bic|mov|mvn|mul|mla|lsl|lsr|asr|ror|rrx|neg)s?
        addw subw movw movt mls cmp cmn tst teq adr clz rbit rev(16|sh)? sel
        [us](mull|mlal)s? umaal smm(la|ls|ul)r? smla[bt][bt] smul[bt][bt] sm(la|ul)w[bt]
        smlal[bt][bt]
        sm(la|ls|ua|us)l?dx? [us]xta?(b|h|b16) [us]bfx bf[ci] [us]sat(16)? pkh(bt|tb)
        [us]?h?(q|s|u|uq|uh|sh)?(add|sub)(8|16) [us]?q?d?(add|sub) [su](asx|sax) usada?8
        (ld|st)r(s?[bh]|d)?t? (ld|st)m(ia|ib|da|db)? push pop pld
        b bl blx bx cbn?z i[te]{1,4} nop svc dmb dsb isb udf tb[bh] ldrex[bhd]? strex[bhd]?
        dls wls le lctp dlstp\.\d+ wlstp\.\d+ letp csel cset csetm csinc csinv csneg cinc cinv
        [lu]?sll? asrl lsll lsrl uqr?shll? sqr?shr?l? [su]rshrl? cneg
        v[a-z]+\d*x?\.[suip]?(8|16|32|64)
        v(and|bic|eor|orr|orn|mvn|bsl|bif|bit|swp|ext|mov|pst|pnot)
        vpst[te]* vpt[te]*\.[sui]?(8|16|32) vpsel vm(rs|sr) vctp\.\d+ vidup\.\w+ vldr[bhwd]\.\w+
        vstr[bhwd]\.\w+
        """,
    dots={
        "vmladava": r"vr?ml[as]\w*v\w*\.[su](8|16|32)",
        "vmull.8": r"vm(ull|lal)\.[su]8",
        "vpadal": r"vpadal\.[su]16",
        "vmlal.16": r"vmlal\.[su]16",
        "vmla.i32": r"vmla\.i32 q",
        "smlad": r"sm(la|ls|ua|us)l?dx?[ .a-z]",
        "smla": r"smla[bt][bt]|mla",
    },
    suffix=r"(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al|t|e)?(\.[wn])?",
    float_operands=r"\bfpscr\b",
)

HEXAGON = InstructionSet(
    carriers=NEVER,
    floats=r"[sd]f[a-z]\w*(\.\w+)* convert_\w+ vcvt\w* vconv\w* vf(?!mv)\w+",
    divisions=NEVER,
    integers=r"""
        = nop jump jumpr call callr hintjr dealloc_return deallocframe allocframe trap0 barrier
        mem(b|ub|h|uh|w|d)(_fifo)? vmemu? vgather vscatter dcfetch dczeroa? l2fetch
        add(asl|asr)? addi sub and or xor not neg abs combine mux tfr tfril? loop[01] sp[123]loop0
        asl asr lsr lsl rol asrrnd aslh asrh mpy(i|u|su)? maxu? minu? sxt[bhw] zxt[bh]
        v?cmp[bh]?\.(eq|gtu?|lt|ge) [bs]?it(s|set|sclr)\w* bits(set|clr) tstbit setbit clrbit
        togglebit
        extractu? insert ct[01] cl[01b] clip normamt popcount brev bitsplit swiz
        sat([bhw]|ub|uh)? round cround packhl parity any8 all8 mask lsplit interleave deinterleave
        (pm|cm|d)py\w* modwrap decbin shuff(eb|eh|ob|oh) tableidx\w* s?[av]trunc\w+ vtrun\w+
        v(?!cvt|conv|f)[a-z]\w* q[a-z]\w* [vq]not prefix\w* vfmv
        """,
    dots={
        "vrmpy": r".*\bvrmpy\(",
        "vdmpy": r".*\bvdmpy\(",
        "vmpa": r".*\bvmpa\(",
        "vmpy.h": r".*\.h \+= vmpy\(",
    },
    float_operands=r"\.(sf|hf|qf16|qf32|bf|f8|tf)\b",
)

RISCV = InstructionSet(
    carriers=r"f(l|s)[hwdq] fmv\.\w+\.\w+ vfmv\.\w+\.\w+",
    floats=r"f(?!ence)\w+(\.\w+)* v\w*f(?!irst)\w*\.\w*f\w* vf\w+(\.\w+)*",
    divisions=r"(div|rem)u?w? v(div|rem)u?\.v[vx]",
    integers=r"""
        (add|sub|and|or|xor|sll|srl|sra|slt|sltu)i?w? addiw s(ll|rl|ra)iw mulw? mulh(s?u)?
        li lui auipc mv neg negw not nop sext\.[bhw] zext\.[bhw] s(eqz|nez|gtz|ltz) sltiu
        l[bhwd]u? s[bhwd] la j jal jalr jr call tail ret b(eq|ne|lt|ge|gt|le)u?z? ecall ebreak unimp
        fence(\.\w+)? csrr[wsc]?i? csr[wsc]i? lr\.\w+(\.\w+)? sc\.\w+(\.\w+)? amo\w+\.\w+(\.\w+)?
        vset(i?vli|vl) vl[1248]re?\d*\.v vs[1248]r\.v v[ls]e\d+(ff)?\.v v[ls]s?(e|seg\de)\d+\.v
        v[ls][ou]x(ei|seg\dei)\d+\.v v[ls]ss?e(g\de)?\d*\.v v[ls]sseg\de\d+\.v vlm\.v vsm\.v
        vw?(add|sub|mul)u?\.[vw][vxi]m? vwmulsu\.v[vx] vrsub\.v[xi] v(add|sub)\.v[vxi]
        vmulh(s?u)?\.v[vx]
        v(w?mu?acc|nmsac|madd|nmsub)\.v[vx] vwmacc(u|su|us)?\.v[vx] v[sz]ext\.vf[248] vneg\.v
        vnot\.v
        v(and|or|xor|sll|srl|sra|minu?|maxu?)\.v[vxi] vnsr[la]\.w[vxi] vssr[la]\.v[vxi]
        vnclipu?\.w[vxi]
        vncvt\.x\.x\.w vwcvtu?\.x\.x\.v v[as]?(s?add|s?sub)u?\.v[vxi] vsmul\.v[vx]
        vms(eq|ne|ltu?|leu?|gtu?|geu?)\.v[vxi] vm(and|nand|andn|xor|or|nor|orn|xnor)\.mm
        vmerge\.v[vxi]m
        vmv\.(v\.[vxi]|s\.x|x\.s) vmv[1248]r\.v vred\w+\.vs vwredsumu?\.vs vid\.v viota\.m
        vcpop\.m vfirst\.m
        vmsbf\.m vmset\.m vmclr\.m
        vslide(up|down|1up|1down)\.v[xi] vrgather(ei16)?\.v[vxi] vcompress\.vm
        """,
    dots={
        "vwmacc": r"vwmacc(u|su|us)?\.v[vx]",
        "vmacc": r"vm(acc|add)\.v[vx]",
    },
)

SETS = {
    "x86_64": X86,
    "aarch64": AARCH64,
    "arm": ARM,
    "thumb": ARM,
    "hexagon": HEXAGON,
    "riscv64": RISCV,
}
"""By a target's architecture."""

OF_KERNELS = {
    "vnni512": "vpdpbusd",
    "vnni256": "vpdpbusd",
    "avx2_pairs": "vpmaddubsw",
    "avx2_nibbles": "vpmaddubsw",
    "avx2_wide": "vpmaddwd",
    "usmmla": "mmla",
    "usdot": "dot",
    "sdot": "dot",
    "neon_pairs": "mull.8h",
    "neon_wide": "mlal.4s",
    "armv7_pairs": "vmull.8",
    "armv7_wide": "vmlal.16",
    "smlad": "smlad",
    "vwmacc": "vwmacc",
    "vmladava": "vmladava",
    "vrmpy_word": "vrmpy",
    "vrmpy": "vrmpy",
}
"""The instruction that a kernel must hold, by the name of the dot that it is blocked around."""
